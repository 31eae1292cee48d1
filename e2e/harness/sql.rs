//! SQL: a blocking connection to a test's database, for looking past the API.

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Row, types::FromSqlOwned, types::ToSql};

/// One connection.
pub struct Sql {
    runtime: Runtime,
    client: Client,
}

impl Sql {
    /// Connects, or says why not.
    pub fn connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            // Its end is seen by the next statement.
            tokio::spawn(async move { drop(connection.await) });
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// The rows of a query.
    #[track_caller]
    pub fn rows(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        match self.runtime.block_on(self.client.query(query, parameters)) {
            Ok(rows) => rows,
            Err(error) => panic!("{query}: {error:?}"),
        }
    }

    /// The one value of the one row of a query.
    #[track_caller]
    pub fn value<T: FromSqlOwned>(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> T {
        let rows = self.rows(query, parameters);
        assert_eq!(rows.len(), 1, "{query} should have one row");
        rows[0].get(0)
    }

    /// One statement; returns how many rows it changed.
    #[track_caller]
    pub fn change(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> u64 {
        match self.runtime.block_on(self.client.execute(statement, parameters)) {
            Ok(count) => count,
            Err(error) => panic!("{statement}: {error:?}"),
        }
    }

    /// Several statements at once, without parameters.
    pub fn run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(statements))
    }
}
