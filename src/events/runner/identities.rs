//! Which rules need more of the row before a change than PostgreSQL sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::rule::Rules;
use super::super::rule::rules::Rule;
use super::super::source::postgres::{Identity, Postgres, Settings};
use crate::clock::Clock;

/// Logs, once the database can be asked, which rules need `REPLICA IDENTITY FULL`. Their events could not be
/// applied.
pub(super) async fn report(source: String, settings: Settings, rules: Arc<Rules>, clock: Clock) {
    let mut database = Postgres::new(settings, clock);
    let tables = loop {
        match database.replica_identities().await {
            Ok(tables) => break tables,
            // The source itself reports why it cannot be attached.
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    };
    for rule in unpublished(&rules, &source, &tables) {
        tracing::warn!(
            source,
            rule,
            "rule matches no table of the publication: add the table, or for a partitioned one set \
             publish_via_partition_root"
        );
    }
    for (rule, table) in lacking(&rules, &source, &tables) {
        tracing::warn!(
            source,
            rule,
            table,
            "rule needs columns of the row before a change: alter table {table} replica identity full"
        );
    }
}

/// The rules for tables of which the publication has none.
fn unpublished(rules: &Rules, source: &str, tables: &[Identity]) -> Vec<String> {
    let rules = rules.iter().filter(|rule| rule.is_for(source) && rule.has_tables());
    let rules = rules.filter(|rule| !tables.iter().any(|known| rule.is_for_table(&known.table)));
    rules.map(Rule::name).collect()
}

/// The rules that need more than the identity of a table, and that table.
fn lacking<'t>(rules: &Rules, source: &str, tables: &'t [Identity]) -> Vec<(String, &'t str)> {
    let mut lacking = Vec::new();
    for Identity { columns, is_full, table } in tables {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let rules = rules.iter().filter(|rule| rule.is_for(source) && rule.is_for_table(table));
        let rules = rules.filter(|rule| !is_full && rule.needs_full_before(&columns));
        lacking.extend(rules.map(|rule| (rule.name(), table.as_str())));
    }
    lacking
}

const AGAIN_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_need_the_old_row_are_named_with_their_table() {
        let rules: Rules = serde_json::from_str(
            r#"[{"name": "tags", "table": "t", "tags": ["c:{each.category}"]},
                {"name": "keys", "table": "t", "keys": ["t:{each.id}"]},
                {"name": "other", "table": "t", "source": "app", "tags": ["c:{each.category}"]}]"#,
        )
        .unwrap();
        let identity = |table: &str, is_full| Identity {
            columns: vec!["id".to_owned()],
            is_full,
            table: table.to_owned(),
        };
        let tables = [identity("public.t", false), identity("shop.t", true), identity("public.u", false)];
        assert_eq!(lacking(&rules, "db", &tables), [("tags".to_owned(), "public.t")]);
        assert!(unpublished(&rules, "db", &tables).is_empty());
        assert_eq!(unpublished(&rules, "db", &tables[2..]), ["tags", "keys"], "an unpublished table");
    }
}
