//! The statements, a file each, as PostgreSQL is sent them.
//!
//! Decides: how a name in a file (`:app`) becomes a numbered parameter, and in which schema the tables are. A file names
//! the schema `soloist`; where another one is configured it is put in its place, once, when the store is opened. So nothing
//! depends on a `search_path`, which a pooler may hand from one client to the next.
//!
//! Where a file looks a task up by its key, it says `status || ''`. So no index of some tasks can answer it, whatever
//! PostgreSQL believes of a table that has grown since it was last analyzed: it would take that of a model's tasks, and read
//! all of them for one.
//!
//! Never decides what a statement says.

use tokio_postgres::types::{ToSql, Type};

/// Values for the names of a statement.
pub(crate) type Args<'a> = &'a [(&'static str, &'a (dyn ToSql + Sync), Type)];

/// Values for the names of a statement: `args! { app: TEXT = key.app() }`.
macro_rules! args {
    ($($name:ident: $type:ident = $value:expr),* $(,)?) => {
        &[$((stringify!($name), &$value as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::$type)),*]
    };
}
pub(crate) use args;

/// One statement, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) text: String,
    names: Vec<String>,
}

impl Statement {
    /// Reads a file: comments go, names become numbers, the schema is put in.
    pub(crate) fn new(file: &str, schema: &str) -> Self {
        let lines: Vec<&str> = file.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let sql = in_schema(&lines.join("\n"), schema);
        let (mut text, mut names) = (String::with_capacity(sql.len()), Vec::<String>::new());
        let mut rest = sql.as_str();
        while let Some(colon) = rest.find(':') {
            let (before, after) = rest.split_at(colon);
            text.push_str(before);
            if let Some(cast) = after.strip_prefix("::") {
                text.push_str("::");
                rest = cast;
                continue;
            }
            let end = after[1..]
                .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
                .map_or(after.len(), |n| n + 1);
            let name = &after[1..end];
            let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            text.push_str(&format!("${}", place + 1));
            rest = &after[end..];
        }
        text.push_str(rest);
        Self { text, names }
    }

    /// The values in the order of their numbers.
    pub(crate) fn bind<'a>(&self, args: Args<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        debug_assert_eq!(self.names.len(), args.len(), "every value has a name in {}", self.text);
        let value = |name: &String| {
            let found = args.iter().find(|(known, ..)| known == name);
            let (_, value, of_type) = found.unwrap_or_else(|| panic!("{name} has a value in {}", self.text));
            (*value, of_type.clone())
        };
        self.names.iter().map(value).collect()
    }
}

/// Puts the name of a schema in the place of `soloist`.
pub(crate) fn in_schema(sql: &str, schema: &str) -> String {
    sql.replace("soloist.", &format!("\"{schema}\"."))
}

macro_rules! statements {
    ($($name:ident = $file:literal),* $(,)?) => {
        /// All statements of the store.
        pub(crate) struct Statements {
            $(pub(crate) $name: Statement),*
        }

        impl Statements {
            /// Reads them all for one schema.
            pub(crate) fn of(schema: &str) -> Self {
                Self { $($name: Statement::new(include_str!(concat!("sql/", $file, ".sql")), schema)),* }
            }
        }
    };
}

statements! {
    active = "active", active_many = "active_many", append = "append", beside = "beside", bury = "bury", cancel = "cancel", claim = "claim",
    claim_keyed = "claim_keyed", claim_many = "claim_many", claim_queued = "claim_queued", clamp = "clamp", clear = "clear",
    cleared = "cleared", create = "create", create_keyed = "create_keyed",
    create_many = "create_many", delete = "delete", epoch = "epoch", events = "events", expire = "expire",
    finish = "finish", forget = "forget", held = "held", inbox = "inbox", join = "join", leave = "leave", others = "others",
    left = "left", living = "living", orphans = "orphans", outlive = "outlive", owed = "owed", position = "position",
    prune = "prune", renew = "renew", requeue = "requeue", ripen = "ripen", rows = "rows", serves = "serves", signal = "signal",
    signals = "signals", slots = "slots", task = "task", task_many = "task_many", use_key = "use", used = "used", waiting = "waiting", want = "want",
}

/// The list, with a line for each part of its filter.
pub(crate) fn list(schema: &str, filter: &str) -> Statement {
    Statement::new(&include_str!("sql/list.sql").replace("-- filter", filter), schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_number_wherever_it_stands_and_a_cast_is_none() {
        let file = "-- x: y :z\nSELECT :app, :b::text, soloist.f(:app)\n  -- :c\n FROM soloist.task";
        let statement = Statement::new(file, "other");
        assert_eq!(statement.text, "SELECT $1, $2::text, \"other\".f($1)\n FROM \"other\".task");
        assert_eq!(statement.names, ["app", "b"]);
    }

    #[test]
    fn every_statement_can_be_read() {
        let statements = Statements::of("soloist");
        assert!(statements.claim.text.contains("SKIP LOCKED"));
        assert!(list("soloist", "AND app = :app").text.contains("AND app = $"));
    }
}
