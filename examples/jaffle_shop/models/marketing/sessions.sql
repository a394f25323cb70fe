MODEL (
  name marketing.sessions,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column ended_at
  ),
  cron '*/5 * * * *',
  description 'Visits of the web shop. A visit is booked when it ends: all its events are there by then.',
  owner 'growth',
  grain session_id,
  references customer_id,
  tags (marketing, web),
  audits (
    unique_values(columns := session_id)
  )
);

WITH ended_sessions AS (
  SELECT
    session_id,
    occurred_at AS ended_at
  FROM staging.web_events
  WHERE
    event_type = 'session_end' AND occurred_at BETWEEN @start_ts AND @end_ts
)
SELECT
  ended.session_id, /* Number of the visit. */
  MAX(events.customer_id) AS customer_id, /* Customer who signed in during the visit. */
  MAX(events.campaign) AS campaign, /* Campaign that led to the visit. */
  COUNT_IF(events.event_type = 'page_view')::INT AS page_views, /* Pages seen. */
  COUNT_IF(events.event_type = 'checkout') > 0 AS has_checkout, /* Whether the visitor went to the checkout. */
  MIN(events.occurred_at) AS started_at, /* First event, in UTC. */
  ended.ended_at /* Last event, in UTC. */
FROM ended_sessions AS ended
INNER JOIN staging.web_events AS events
  ON ended.session_id = events.session_id
GROUP BY
  ended.session_id,
  ended.ended_at
