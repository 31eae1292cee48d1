//! `app completions` and `app man`: the command line, told to shells and to man.

use std::{io, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{exit::Exit, failure::Failure};

/// For which shell.
#[derive(Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to.
#[derive(Args)]
pub struct Man {
    /// A folder that is there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Completions {
    /// Prints the script.
    pub fn run(self, mut program: Command) -> Result<Exit, Failure> {
        let name = program.get_name().to_owned();
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        io::Write::write_all(&mut io::stdout().lock(), &script)?;
        Ok(Exit::Done)
    }
}

impl Man {
    /// Writes one page for the program and one for each command.
    pub fn run(self, program: Command) -> Result<Exit, Failure> {
        clap_mangen::generate_to(program, &self.folder)
            .map_err(|error| Failure::usage(format!("cannot write to {}: {error}", self.folder.display())))?;
        Ok(Exit::Done)
    }
}
