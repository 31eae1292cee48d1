//! Settings: times that must fit each other.

use std::time::Duration;

use humantime::format_duration;

use super::{Finding, Findings};
use crate::config;

/// A lease that is shorter takes a busy moment for a death.
const SHORT_LEASE: Duration = Duration::from_secs(5);

/// Those that cannot be.
pub(super) fn refused(wrong: &[String]) -> Vec<Finding> {
    let mut findings = Findings::about("settings");
    wrong.iter().for_each(|why| findings.fail(why, "correct the setting: serve or work does not start with it"));
    findings.all
}

/// Those that work, and may not fit each other.
pub(super) fn examine(work: &config::Work) -> Vec<Finding> {
    let mut findings = Findings::about("settings");
    if work.lease < SHORT_LEASE {
        findings.warn(
            format!("APP_LEASE is {}: a busy moment is taken for a death", format_duration(work.lease)),
            "APP_LEASE=30s",
        );
    } else {
        findings.ok(format!("lease {}", format_duration(work.lease)));
    }
    if work.stop_timeout >= work.lease {
        findings.warn(
            format!(
                "APP_STOP_TIMEOUT ({}) is not shorter than APP_LEASE ({}): a worker that was declared dead may go on \
                 beside the one that took over",
                format_duration(work.stop_timeout),
                format_duration(work.lease)
            ),
            "a longer APP_LEASE, or a shorter APP_STOP_TIMEOUT: 30s and 5s are the defaults",
        );
    }
    if work.lease_grace < work.lease {
        findings.warn(
            format!(
                "APP_LEASE_GRACE ({}) is shorter than APP_LEASE ({}): a short outage of PostgreSQL stops attempts that \
                 nobody would have taken",
                format_duration(work.lease_grace),
                format_duration(work.lease)
            ),
            "a longer APP_LEASE_GRACE: 5m is the default",
        );
    }
    let leaving = work.grace + work.stop_timeout;
    findings.ok(format!(
        "workers leave within {}: give them more before SIGKILL (terminationGracePeriodSeconds, stop_grace_period)",
        format_duration(leaving)
    ));
    findings.all
}
