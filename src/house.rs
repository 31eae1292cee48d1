//! House: a test that keeps the rooms apart. Imports go one way, and every file says what it is.

use std::{fs, path::Path};

/// Room, and the rooms that it may use beside itself. A path belongs to the longest name that it begins with.
const ARROWS: [(&str, &[&str]); 17] = [
    ("core::model", &[]),
    ("core", &["core::model", "config", "telemetry", "metrics", "tls"]),
    ("tasks", &["core::model", "config"]),
    ("serve", &["core", "core::model", "tasks", "config", "shutdown", "telemetry", "metrics", "admin", "tls"]),
    ("work", &["core", "core::model", "tasks", "config", "shutdown", "telemetry", "metrics", "admin"]),
    ("dev", &["config"]),
    ("doctor", &["core", "config"]),
    ("size", &["config"]),
    // As far from the server as somebody else's program: it speaks HTTP.
    ("client", &["config"]),
    (
        "cli",
        &[
            "client",
            "core",
            "core::model",
            "tasks",
            "serve",
            "work",
            "dev",
            "doctor",
            "size",
            "config",
            "shutdown",
            "telemetry",
            "metrics",
            "admin",
            "allocator",
        ],
    ),
    ("config", &["core::model"]),
    ("telemetry", &["config"]),
    ("shutdown", &[]),
    ("metrics", &[]),
    ("admin", &["core", "config", "metrics"]),
    ("tls", &[]),
    ("allocator", &[]),
];

#[test]
fn imports_go_one_way_and_every_file_names_its_noun() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&source).unwrap().display().to_string();
        // diesel writes this one.
        if !text.starts_with("//! ") && !name.ends_with("schema.rs") {
            wrong.push(format!("{name} does not begin with a //! line that says what it is"));
        }
        let module = name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        if ["lib", "main", "house"].contains(&module.as_str()) {
            continue;
        }
        let (own, allowed) = room(&module).unwrap_or_else(|| panic!("{name} is in no room: add it to ARROWS"));
        for path in paths(&module, &text) {
            if let Some((other, _)) = room(&path)
                && other != own
                && !allowed.contains(other)
            {
                wrong.push(format!("{name}: {own} must not use {other} ({path})"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_through_braces_and_super() {
    let text = "use crate::{\n    config,\n    core::{Core, model::{TaskId, Status}},\n};\n// crate::dev\nuse super::super::x;";
    let found = paths("serve::submit::body", text);
    assert_eq!(found, ["config", "core::Core", "core::model::TaskId", "core::model::Status", "serve::x"]);
    assert_eq!(room("core::model::TaskId").unwrap().0, "core::model");
    assert_eq!(room("core::Core").unwrap().0, "core");
}

fn room(path: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let inside = |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    ARROWS.iter().filter(|(name, _)| inside(name)).max_by_key(|(name, _)| name.len())
}

/// Every path into the crate that the file's code, its tests left out, writes as `crate::…` or `super::…`.
fn paths(module: &str, text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        expand("", &code[at + "crate::".len()..], &mut found);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let (mut rest, mut above) = (&code[at..], module);
        while let Some(further) = rest.strip_prefix("super::") {
            (rest, above) = (further, above.rsplit_once("::").map_or("", |(parent, _)| parent));
        }
        expand(above, rest, &mut found);
    }
    found
}

/// Adds the paths of one `use` tree, which begins at `text`, below `prefix`; returns what follows the tree.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match rest.chars().next() {
                None => return rest,
                Some('}') => return &rest[1..],
                Some(c) if is_path(c) => rest = expand(prefix, rest, found),
                Some(c) => rest = &rest[c.len_utf8()..],
            }
        }
    }
    let (name, rest) = text.split_at(text.find(|c| !is_path(c)).unwrap_or(text.len()));
    match rest.strip_prefix("::") {
        Some(below) if !name.is_empty() => expand(&join(name), below, found),
        _ => {
            found.push(join(name));
            rest
        }
    }
}

fn is_path(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '*'
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}
