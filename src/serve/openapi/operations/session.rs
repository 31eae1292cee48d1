//! Sessions: how a browser signs in and out.

use serde_json::{Value, json};

use super::super::{
    super::problem::Code,
    operation::{Answer, Operation, schema},
};

fn who() -> Value {
    json!({
        "name": "alice", "role": "user", "anonymous": false, "version": "1.0.0", "server_time": "2026-01-01T00:00:00.000Z",
    })
}

pub(super) fn show() -> Operation {
    Operation::new("GET", "/session", "getSession")
        .about("session", "Who asks", "The name and the role of the caller, the server's version and its clock.")
        .answers(Answer::json(200, "The caller.", schema("Session"), who()).with(&["Cache-Control"]))
        .fails(&[Code::InvalidParameter])
}

pub(super) fn sign_in() -> Operation {
    Operation::new("POST", "/session", "signIn")
        .about(
            "session",
            "Sign in",
            "With an API key, or a token of the identity provider. The answer sets a cookie that is good for twelve \
             hours, as long as the key is.",
        )
        .body(schema("SignIn"), [("key".to_owned(), json!({"key": "lrk_0123456789abcdef_…"}))])
        .answers(
            Answer::json(200, "Signed in.", schema("Session"), who())
                .with(&["Cache-Control"])
                // Where the server has no keys there is nothing to keep.
                .may_have(&["Set-Cookie"]),
        )
        .fails(&[Code::InvalidParameter, Code::InvalidInput, Code::Unauthorized])
}

pub(super) fn sign_out() -> Operation {
    Operation::new("DELETE", "/session", "signOut")
        .about("session", "Sign out", "Ends the session of the cookie, and takes it back. Twice is as good as once.")
        .answers(Answer::empty(204, "Signed out.").with(&["Set-Cookie"]))
}
