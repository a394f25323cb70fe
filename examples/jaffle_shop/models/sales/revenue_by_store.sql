MODEL (
  name sales.revenue_by_store,
  kind FULL,
  cron '@daily',
  cron_tz 'America/New_York',
  description 'Revenue of each store to date, ready when head office in New York starts its day.',
  grain store_id,
  tags (sales, revenue),
  audits (
    not_null(columns := (store_name, region))
  )
);

SELECT
  revenue.store_id, /* Number of the store. */
  stores.store_name, /* Name of the store. */
  stores.region, /* Sales region of the store. */
  SUM(revenue.order_count) AS order_count, /* Orders that were not cancelled. */
  SUM(revenue.revenue) AS revenue, /* Revenue since the store is in the warehouse. */
  MAX(revenue.revenue_date) AS last_revenue_date /* Latest day with an order. */
FROM sales.daily_revenue AS revenue
LEFT JOIN reference.store_regions AS stores
  ON revenue.store_id = stores.store_id
GROUP BY
  revenue.store_id,
  stores.store_name,
  stores.region
