//! The program: the list of its task types and nothing else. This is the file to edit.

use std::process::ExitCode;

use longrun::tasks::{Registry, scrape::WebScrape, vector::VectorProcessing};

#[global_allocator]
static ALLOCATOR: longrun::Allocator = longrun::Allocator;

fn main() -> ExitCode {
    longrun::main(Registry::new().with(VectorProcessing).with(WebScrape))
}
