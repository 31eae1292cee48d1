//! Mistakes: the library's refusals of a command line, with what it does not know: that a setting has a variable too, that
//! a URL may hold a password, and what other programs call our commands.

use clap::{
    Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Words of other programs, and what does the same here.
const ELSEWHERE: [(&str, &str); 11] = [
    ("describe", "get"),
    ("enqueue", "submit"),
    ("ls", "list"),
    ("ps", "list"),
    ("run", "submit"),
    ("server", "serve"),
    ("show", "get"),
    ("status", "get"),
    ("tail", "follow"),
    ("watch", "follow"),
    ("worker", "work"),
];

/// Says what is wrong and ends the program: with 2, or with 0 where help was asked for.
pub(super) fn exit(error: Error, whole: &Command) -> ! {
    // The library's own words, of several lines, name the flag and not the variable.
    if lacks_only(&error, "--database-url <URL>") {
        eprintln!("error: DATABASE_URL is not set: write postgresql://user:password@host:port/database");
        std::process::exit(error.exit_code());
    }
    let mut built = whole.clone();
    built.build();
    explained(error, &built).exit()
}

fn lacks_only(error: &Error, argument: &str) -> bool {
    error.kind() == ErrorKind::MissingRequiredArgument
        && matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::Strings(lacking)) if lacking == &[argument])
}

fn explained(mut error: Error, whole: &Command) -> Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(written)) = error.get(kind)
            && let Some(safe) = without_password(written)
        {
            error.insert(kind, ContextValue::String(safe));
            // How to write it instead, with all of it.
            error.remove(ContextKind::Suggested);
        }
    }
    let arguments = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => Some(ContextValue::String(with_variable(name, whole))),
        Some(ContextValue::Strings(names)) => {
            Some(ContextValue::Strings(names.iter().map(|name| with_variable(name, whole)).collect()))
        }
        _ => None,
    };
    if let Some(arguments) = arguments {
        error.insert(ContextKind::InvalidArg, arguments);
    }
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) {
        let meant = ELSEWHERE.iter().find(|(theirs, _)| theirs == word).map(|(_, ours)| (*ours).to_owned());
        let hidden = |name: &String| whole.find_subcommand(name).is_some_and(Command::is_hide_set);
        let tips = match (meant, error.remove(ContextKind::SuggestedSubcommand)) {
            (Some(meant), _) => vec![meant],
            (None, Some(ContextValue::Strings(names))) => names.into_iter().filter(|name| !hidden(name)).collect(),
            (None, _) => Vec::new(),
        };
        if !tips.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(tips));
        }
    }
    error
}

/// `--lease <TIME> (APP_LEASE)`: the value may have come from either.
fn with_variable(argument: &str, whole: &Command) -> String {
    let named = whole
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .chain(whole.get_arguments())
        .find(|known| known.to_string() == argument && known.get_env().is_some());
    match named.and_then(|known| known.get_env()) {
        Some(variable) => format!("{argument} ({})", variable.display()),
        None => argument.to_owned(),
    }
}

/// `None`: it holds none.
fn without_password(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once("://")?;
    let (_, place) = rest.rsplit_once('@')?;
    Some(format!("{scheme}://…@{place}"))
}

#[cfg(test)]
mod tests {
    use super::{super::command_line, *};

    /// As a person reads it.
    fn told(words: &[&str]) -> String {
        let mut whole = command_line();
        whole.build();
        let error = whole.clone().try_get_matches_from([&["app"][..], words].concat()).unwrap_err();
        explained(error, &whole).to_string()
    }

    #[test]
    fn a_setting_is_named_by_flag_and_by_variable() {
        let text = told(&["work", "--database-url=x", "--lease=soon"]);
        assert!(
            text.contains("invalid value 'soon' for '--lease <TIME> (APP_LEASE)'") && text.contains("30s"),
            "{text}"
        );
        let text = told(&["serve", "--database-url=x", "--max-body=-1"]);
        assert!(text.contains("(APP_MAX_BODY)': write a whole number from 1 to "), "{text}");
        let text = told(&["work", "--database-url=x", "--outbound-allow=300.0.0.0/8"]);
        assert!(text.contains("(APP_OUTBOUND_ALLOW)'") && text.contains("write 10.0.0.0/8"), "{text}");
        let text = told(&["serve", "--database-url=x", "--tls-cert=x"]);
        assert!(text.contains("--tls-key <FILE> (APP_TLS_KEY)"), "{text}");
    }

    #[test]
    fn only_a_missing_database_is_told_as_one() {
        let error = |words: &[&str]| {
            let whole =
                command_line().mut_subcommand("serve", |serve| serve.mut_args(|argument| argument.env(None::<&str>)));
            whole.try_get_matches_from([&["app", "serve"][..], words].concat()).unwrap_err()
        };
        assert!(lacks_only(&error(&[]), "--database-url <URL>"));
        assert!(!lacks_only(&error(&["--tls-cert=x"]), "--database-url <URL>"));
        assert!(!lacks_only(&error(&["--tls-cert=x", "--database-url=x"]), "--database-url <URL>"));
    }

    #[test]
    fn a_password_is_not_repeated() {
        for words in [
            &["list", "--url=http://user:geheim@x"][..],
            &["migrate", "--database-url=y", "http://user:geheim@x"],
            &["http://user:geheim@x"],
        ] {
            let text = told(words);
            assert!(text.contains("http://…@x") && !text.contains("geheim"), "{text}");
        }
    }

    #[test]
    fn what_others_call_it_is_known_and_hidden_commands_are_not_proposed() {
        let whole = command_line();
        for (theirs, ours) in ELSEWHERE {
            assert!(whole.find_subcommand(theirs).is_none() && whole.find_subcommand(ours).is_some(), "{theirs}");
        }
        let text = told(&["watch"]);
        assert!(text.contains("'follow'") && !text.contains("attempt-child"), "{text}");
        assert!(told(&["sumbit"]).contains("'submit'"));
        assert!(!told(&["attempt"]).contains("attempt-child"));
    }
}
