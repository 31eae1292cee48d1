//! Ports: free ones that stay free until somebody listens on them.
//!
//! A port that the system chose and that was given back at once may be given to somebody else before it is used, or
//! while its server is down for a moment: to any connection of any process on this machine. These lie below those that
//! the system chooses from, so only their owners come to them.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Where they begin and end. Linux chooses from 32768 on unless it was told otherwise.
const FROM: u16 = 15_000;
const TO: u16 = 32_000;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A port that nobody else of this run gets, and that is free on this address now.
pub fn free_port(at: Ipv4Addr) -> u16 {
    // Runs beside each other begin at different places.
    let start = u32::from(TO - FROM) * (std::process::id() % 97) / 97;
    for _ in 0..1_000 {
        let number = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = FROM + ((start + number) % u32::from(TO - FROM)) as u16;
        if TcpListener::bind((at, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FROM} and {TO} is free");
}
