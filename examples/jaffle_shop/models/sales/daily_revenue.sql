MODEL (
  name sales.daily_revenue,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column revenue_date,
    batch_size 7,
    lookback 1
  ),
  cron '@daily',
  description 'Revenue of each store and day. Waits until the loader has delivered the whole day, and repeats the day before.',
  grain (revenue_date, store_id),
  tags (sales, revenue),
  signals (
    raw_loads_complete()
  ),
  audits (
    unique_combination_of_columns(columns := (revenue_date, store_id))
  )
);

SELECT
  ordered_at::DATE AS revenue_date, /* Day in UTC. */
  store_id, /* Store that took the orders. */
  COUNT_IF(status <> 'cancelled')::INT AS order_count, /* Orders that were not cancelled. */
  COUNT_IF(status = 'returned')::INT AS returned_count, /* Orders that came back. */
  SUM(net_amount) AS revenue, /* Net amount of the orders. */
  SUM(net_amount) - SUM(CASE WHEN status <> 'cancelled' THEN items_cost ELSE 0 END) AS gross_margin /* Revenue less the cost of what was made. */
FROM sales.orders
WHERE
  ordered_at BETWEEN @start_ts AND @end_ts
GROUP BY
  ordered_at::DATE,
  store_id
