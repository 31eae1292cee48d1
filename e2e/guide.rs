//! Guide: what the pages say can be done is done, and what they name is there.
//!
//! A block of shell commands after `<!-- run: with a server -->`, `<!-- run: app -->` or
//! `<!-- run: app with a database -->` is run as it stands; only the server's address and that of the scraped page are
//! those of the test. What `make site` makes of the pages is checked there (scripts/site), since mdBook takes minutes to
//! build; here is what costs nothing: that its table of contents and its pictures are those of the pages.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use longrun::core::model::{Change, Status};

use crate::harness::{App, Deployment, LONG, Site, new_folder};

/// Pages beside those in docs/.
const ROOT_PAGES: [&str; 2] = ["README.md", "ARCHITECTURE.md"];
/// Variables of the tests, and not settings of the program.
const OF_THE_TESTS: [&str; 1] = ["APP_UNDER_TEST"];
/// The commands whose help lists every setting: the roles, and one client command for what all of them take.
const ROLES: [&str; 6] = ["serve", "work", "migrate", "dev", "size", "submit"];
/// Pictures, which `make screenshots` takes.
const PICTURES: &str = "docs/screenshots/";
/// The table of contents of the site: no page itself.
const SUMMARY: &str = "docs/SUMMARY.md";

const CHANGES: [Change; 10] = [
    Change::Claim,
    Change::Succeed,
    Change::Fail,
    Change::RetryLater,
    Change::HandBack,
    Change::Lose,
    Change::LoseForGood,
    Change::Expire,
    Change::Cancel,
    Change::Retry,
];

/// A page: its path from the top, and its text.
struct Page {
    path: PathBuf,
    text: String,
}

/// A marked block of commands.
struct Block {
    page: PathBuf,
    /// With what.
    run: String,
    commands: String,
}

fn pages() -> Vec<Page> {
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = ROOT_PAGES.iter().map(PathBuf::from).chain(docs).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md") && path != Path::new(SUMMARY));
    paths.sort();
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

/// What stands between `from` and `to`, each time.
fn between<'a>(text: &'a str, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(from).skip(1).filter_map(move |rest| rest.split_once(to).map(|(inside, _)| inside))
}

/// Words of these characters.
fn words(text: &str, is_part: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c: char| !is_part(c)).filter(|word| !word.is_empty())
}

/// A heading as GitHub and mdBook name it in an address.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_reached() {
    let pages = pages();
    let mut wrong = Vec::new();
    let mut linked = BTreeSet::new();
    for page in &pages {
        for target in
            between(&page.text, "](", ")").filter(|target| !target.contains("://") && !target.starts_with(PICTURES))
        {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap().join(file),
            };
            let Ok(found) = path.canonicalize() else {
                wrong.push(format!("{}: {target} is not there", page.path.display()));
                continue;
            };
            if !anchor.is_empty() {
                let text = fs::read_to_string(&found).unwrap();
                let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                if !headings.map(|heading| slug(heading.trim_start_matches('#'))).any(|slug| slug == anchor) {
                    wrong.push(format!("{}: {target} has no such heading", page.path.display()));
                }
            }
            linked.insert(found);
        }
    }
    let reached = |page: &Page| linked.contains(&page.path.canonicalize().unwrap());
    wrong.extend(
        pages.iter().filter(|page| !reached(page)).map(|page| format!("{} is not linked", page.path.display())),
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_contents_has_every_page_once() {
    let summary = fs::read_to_string(SUMMARY).unwrap();
    let mut listed: Vec<PathBuf> = between(&summary, "](", ")")
        .map(|target| Path::new("docs").join(target).canonicalize().unwrap_or_else(|_| panic!("{target} is not there")))
        .collect();
    listed.sort();
    let mut pages: Vec<PathBuf> = pages().iter().map(|page| page.path.canonicalize().unwrap()).collect();
    pages.sort();
    assert_eq!(listed, pages, "docs/SUMMARY.md and the pages differ");
}

#[test]
fn every_picture_is_that_of_its_source() {
    let (mut drawn, escape) = (BTreeSet::new(), |text: &str| text.replace('&', "&amp;").replace('<', "&lt;"));
    for page in pages() {
        let name = page.path.with_extension("").to_string_lossy().replace('/', "-").to_lowercase();
        for (number, source) in between(&page.text, "```mermaid\n", "```").enumerate() {
            let file = format!("docs/pictures/{name}-{}.svg", number + 1);
            let picture = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{file} is missing: make pictures"));
            let source = escape(source).replace('>', "&gt;");
            assert!(picture.contains(&format!("<metadata>{source}</metadata>")), "{file} is old: make pictures");
            drawn.insert(file);
        }
    }
    let there = fs::read_dir("docs/pictures").unwrap().map(|entry| entry.unwrap().path().display().to_string());
    assert_eq!(there.collect::<BTreeSet<_>>(), drawn, "pictures of nothing");
    assert!(drawn.len() > 4, "{drawn:?}");
}

/// The picture and the table of ARCHITECTURE.md show the transitions that there are, and no others.
#[test]
fn the_life_of_a_task_is_the_transition_table() {
    let real: BTreeSet<(String, String)> = Status::ALL
        .iter()
        .flat_map(|from| CHANGES.map(|change| from.after(change).map(|to| (from.to_string(), to.to_string()))))
        .flatten()
        .collect();
    let page = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let edges = page.lines().filter_map(|line| line.trim().split_once(':')?.0.split_once(" --> "));
    let pictured: BTreeSet<_> =
        edges.filter(|(from, _)| *from != "[*]").map(|(from, to)| (from.to_owned(), to.to_owned())).collect();
    assert_eq!(pictured, real, "the picture");
    let life = page.split_once("| from | what happens | to |").expect("the table is there").1;
    let mut told = BTreeSet::new();
    for row in life.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        for from in cells[0].split(", ").filter(|from| !from.is_empty()) {
            told.extend(cells[2].split("; ").map(|to| (from.to_owned(), to.to_owned())));
        }
    }
    assert_eq!(told, real, "the table");
}

#[test]
fn every_setting_that_is_named_is_one() {
    let help: String = ROLES.iter().map(|role| App::run(&[role, "--help"], &[]).stdout).collect();
    // Lines are broken to fit a terminal.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let known: BTreeSet<&str> = between(&help, "[env: ", "]").map(|env| env.split('=').next().unwrap()).collect();
    assert!(known.contains("APP_BIND") && known.len() > 20, "{known:?}");
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for page in pages() {
        let named = words(&page.text, is_part).filter(|word| word.starts_with("APP_") && *word != "APP_");
        let unknown: BTreeSet<_> = named.filter(|word| !known.contains(word) && !OF_THE_TESTS.contains(word)).collect();
        assert!(unknown.is_empty(), "{} names settings that no role has: {unknown:?}", page.path.display());
    }
}

#[test]
fn every_chore_and_every_test_that_is_named_is_there() {
    let chores = fs::read_to_string("Makefile").unwrap();
    let sources: String = sources(Path::new("src")).chain(sources(Path::new("e2e"))).collect();
    for page in pages() {
        for span in between(&page.text, "`", "`").filter(|span| !span.contains('\n')) {
            if let Some(chore) = span.strip_prefix("make ").and_then(|rest| rest.split(' ').next()) {
                assert!(chores.contains(&format!("\n{chore}:")), "{}: there is no make {chore}", page.path.display());
            }
            let name = span.rsplit("::").next().unwrap_or_default();
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            // A sentence for a name: that is a test's. Shorter ones may be functions, modules or columns.
            if span.contains("::") && is_name && name.matches('_').count() >= 3 {
                assert!(sources.contains(&format!("fn {name}(")), "{}: there is no {span}", page.path.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Box<dyn Iterator<Item = String>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    Box::new(paths.flat_map(|path| match path.extension() {
        Some(extension) if extension == "rs" => vec![fs::read_to_string(&path).unwrap()],
        None if path.is_dir() => sources(&path).collect(),
        _ => Vec::new(),
    }))
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    for page in pages() {
        let mut lines = page.text.lines();
        while let Some(line) = lines.next() {
            let Some(run) = line.trim().strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->")) else {
                continue;
            };
            let fence = lines.next().unwrap_or_default();
            assert_eq!(fence.trim(), "```sh", "{}: a block of commands follows a mark", page.path.display());
            let commands = lines.by_ref().take_while(|line| line.trim() != "```").map(|line| format!("{line}\n"));
            found.push(Block { page: page.path.clone(), run: run.to_owned(), commands: commands.collect() });
        }
    }
    found
}

#[test]
fn the_commands_do_what_they_say() {
    let blocks = blocks();
    assert!(blocks.len() > 10, "only {} blocks are marked", blocks.len());
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let empty = Deployment::empty();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    serve.client().wait_ready(LONG);
    work.wait_for_line("worker started");
    let folder = new_folder("commands");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_app"), folder.join("app")).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    for Block { page, run, commands } in blocks {
        let database = match run.as_str() {
            "with a server" | "app" => None,
            "app with a database" => Some(empty.database_url()),
            other => panic!("{}: nobody knows how to run {other:?}", page.display()),
        };
        let server = format!("http://{}", serve.address());
        let commands = commands.replace("http://127.0.0.1:8001", &server);
        let commands = commands.replace("https://example.com", site.url("").trim_end_matches('/'));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &commands]).env("PATH", &path).env_remove("DATABASE_URL");
        bash.envs(database.map(|url| ("DATABASE_URL", url)));
        let done = bash.output().expect("bash runs");
        assert!(
            done.status.success(),
            "{} says to run\n{commands}\nand that fails: {}{}",
            page.display(),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    work.stop();
    serve.stop();
}
