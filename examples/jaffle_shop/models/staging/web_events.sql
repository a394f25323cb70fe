MODEL (
  name staging.web_events,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column occurred_at
  ),
  cron '*/5 * * * *',
  description 'Events of the tracker in the web shop.',
  owner 'growth',
  grain event_id,
  references session_id,
  tags (staging, web)
);

SELECT
  event_id, /* Number of the event. */
  session_id, /* Visit that the event belongs to. */
  customer_id, /* Customer who was signed in; null for a visitor. */
  event_type, /* page_view, add_to_cart, checkout or session_end. */
  page_path, /* Page on which it happened. */
  NULLIF(campaign, '') AS campaign, /* Campaign that led to the visit. */
  occurred_at /* When it happened, in UTC. */
FROM raw.web_events
WHERE
  occurred_at BETWEEN @start_ts AND @end_ts
