//! What calls of models cost: by task, and by month for the limits. Counted in one transaction.

use super::rows::row;
use super::{Result, Store, in_tx, read};
use crate::domain::gateway::metering::Measured;
use crate::domain::gateway::price::Cost;
use crate::domain::ids::{Millis, RepositoryId, TaskId, UserId};
use crate::domain::money::Usd;
use crate::domain::run::Spent;

use super::grants::Granted;

row!(SpentRow { tokens: i64, micro_usd: i64, unpriced: i64, estimated: i64 });

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Store {
    /// Adds a call to what its task has spent, and, where the operator's key paid, to what the person, the
    /// repository and the instance have. `calls`: 0 for more of a call that was counted before.
    pub async fn spend(&self, grant: &Granted, call: &Measured, cost: Cost, calls: i64, now: Millis) -> Result<()> {
        let month = now.month();
        let all = [("person", grant.requester.0), ("repository", grant.repository.0), ("instance", 0)];
        let scopes = if grant.key.is_none() { &all[..] } else { &[] };
        in_tx!(self, |conn| {
            sqlx::query(
                "INSERT INTO spending (task_id, provider, model, calls, tokens_in, tokens_out, micro_usd, unpriced, estimated) \
                 VALUES ($1, $2, $3, $9, $4, $5, $6, $7, $8) ON CONFLICT (task_id, provider, model) DO UPDATE SET \
                 calls = spending.calls + excluded.calls, tokens_in = spending.tokens_in + excluded.tokens_in, \
                 tokens_out = spending.tokens_out + excluded.tokens_out, \
                 micro_usd = spending.micro_usd + excluded.micro_usd, \
                 unpriced = spending.unpriced + excluded.unpriced, estimated = spending.estimated + excluded.estimated",
            )
            .bind(&grant.task.0)
            .bind(grant.provider.name())
            .bind(&call.model)
            .bind(whole(call.tokens.all_input()))
            .bind(whole(call.tokens.output))
            .bind(cost.sum.0)
            .bind(i64::from(!cost.is_known))
            .bind(i64::from(call.is_estimate))
            .bind(calls)
            .execute(&mut *conn)
            .await?;
            for (scope, id) in scopes {
                sqlx::query(
                    "INSERT INTO monthly_spending (scope, id, month, micro_usd) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (scope, id, month) DO UPDATE SET micro_usd = monthly_spending.micro_usd + excluded.micro_usd",
                )
                .bind(scope)
                .bind(id)
                .bind(month)
                .bind(cost.sum.0)
                .execute(&mut *conn)
                .await?;
            }
        });
        Ok(())
    }

    /// What the person, the repository and the instance have spent in a month.
    pub async fn spent_in_month(&self, person: UserId, repository: RepositoryId, month: i64) -> Result<[Usd; 3]> {
        let rows: Vec<(String, i64)> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT scope, micro_usd FROM monthly_spending WHERE month = $3 AND ((scope = 'person' AND id = $1) \
                 OR (scope = 'repository' AND id = $2) OR (scope = 'instance' AND id = 0))",
            )
            .bind(person.0)
            .bind(repository.0)
            .bind(month)
            .fetch_all(pool)
            .await
        })?;
        let of = |scope| rows.iter().find(|(found, _)| found == scope).map_or(Usd::default(), |(_, sum)| Usd(*sum));
        Ok([of("person"), of("repository"), of("instance")])
    }

    /// What a task has spent. `None`: no call passed the gateway.
    pub async fn spent_by(&self, task: &TaskId) -> Result<Option<Spent>> {
        let row: Option<SpentRow> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT CAST(sum(tokens_in + tokens_out) AS BIGINT) AS tokens, CAST(sum(micro_usd) AS BIGINT) AS micro_usd, \
                 CAST(sum(unpriced) AS BIGINT) AS unpriced, CAST(sum(estimated) AS BIGINT) AS estimated \
                 FROM spending WHERE task_id = $1 HAVING count(*) > 0",
            )
            .bind(&task.0)
            .fetch_optional(pool)
            .await
        })?;
        Ok(row.map(|row| Spent {
            tokens: u64::try_from(row.tokens).unwrap_or(0),
            sum: (row.unpriced == 0).then_some(Usd(row.micro_usd)),
            is_estimate: row.estimated > 0,
        }))
    }
}
