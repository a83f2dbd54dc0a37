//! The PostgreSQL under test: found by `BIRDWIRE_TEST_POSTGRES`, or on this machine. Without one, tests fail.

use super::{Engine, Place};
use std::sync::OnceLock;
use tokio_postgres::{Client, NoTls};

/// The engine for several nodes; every store has a schema of its own.
pub(crate) struct Postgres;

/// Where the server is: a database in which schemas may be made.
pub(crate) fn server() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("BIRDWIRE_TEST_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
    })
}

/// The URL of a schema.
fn url(schema: &str) -> String {
    let sign = if server().contains('?') { '&' } else { '?' };
    format!("{}{sign}options=-csearch_path%3D{schema}", server())
}

/// Runs `sql` in a schema, on a connection and a thread of its own; an engine's helpers are not async.
pub(crate) fn run(schema: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let (url, sql) = (url(schema), sql.to_owned());
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = connect(&url).await;
            let mut rows = Vec::new();
            for message in client.simple_query(&sql).await.unwrap() {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
            }
            rows
        })
    };
    std::thread::spawn(work).join().unwrap()
}

async fn connect(url: &str) -> Client {
    let url = url.replace("sslmode=require", "sslmode=prefer");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap_or_else(|error| {
        panic!(
            "no PostgreSQL for the tests: {error}. `scripts/test` starts one; or set BIRDWIRE_TEST_POSTGRES to the URL \
             of a database where schemas may be made"
        )
    });
    tokio::spawn(connection);
    client
}

/// The schema of a place.
pub(crate) fn schema(place: &Place) -> String {
    place.url.rsplit_once("search_path%3D").unwrap().1.to_owned()
}

struct Schema(String);

impl Drop for Schema {
    fn drop(&mut self) {
        run("public", &format!("DROP SCHEMA IF EXISTS {} CASCADE", self.0));
    }
}

impl Engine for Postgres {
    fn place(&self) -> Place {
        let schema = format!("birdwire_test_{:032x}", fastrand::u128(..));
        run("public", &format!("CREATE SCHEMA {schema}"));
        Place { url: url(&schema), _hold: Box::new(Schema(schema)) }
    }

    fn forbid(&self, place: &Place, text: &str) {
        let sql = format!(
            "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'it is forbidden'; END $$;
             CREATE TRIGGER forbidden BEFORE INSERT ON messages FOR EACH ROW
             WHEN (new.text = convert_to('{text}', 'UTF8')) EXECUTE FUNCTION forbid()"
        );
        run(&schema(place), &sql);
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn age(&self, place: &Place) {
        let sql = "INSERT INTO migrations (version, checksum, applied_at) VALUES (99, '', 0)";
        run(&schema(place), sql);
    }
}
