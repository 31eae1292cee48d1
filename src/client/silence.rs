//! Silence: a connection on which nothing comes is given up, however long its answer may last in all.

use std::time::Duration;

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time::Duration as Limit,
};

/// A stream says something every 15 s: after this much silence its connection is dead.
pub const SILENCE: Duration = Duration::from_secs(20);

/// Puts connections under that rule.
#[derive(Debug)]
pub struct NoLongSilence;

/// One of them.
#[derive(Debug)]
pub struct Impatient<T>(T);

impl<In: Transport> Connector<In> for NoLongSilence {
    type Out = Impatient<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Impatient<In>>, ureq::Error> {
        Ok(chained.map(Impatient))
    }
}

impl<T: Transport> Transport for Impatient<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let after = Limit::Exact((*timeout.after).min(SILENCE));
        self.0.await_input(NextTimeout { after, ..timeout })
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
