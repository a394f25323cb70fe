MODEL (
  name core.customer_profile,
  kind INCREMENTAL_BY_UNIQUE_KEY (
    unique_key customer_id
  ),
  cron '@hourly',
  description 'Lifetime figures of each customer with an order. An hour updates the customers who ordered in it.',
  grain customer_id,
  tags (core, customers),
  audits (
    unique_values(columns := customer_id)
  )
);

WITH active_customers AS (
  SELECT DISTINCT
    customer_id
  FROM sales.orders
  WHERE
    ordered_at BETWEEN @start_ts AND @end_ts
)
SELECT
  orders.customer_id, /* Number of the customer. */
  MIN(orders.ordered_at) AS first_ordered_at, /* First order, in UTC. */
  MAX(orders.ordered_at) AS last_ordered_at, /* Latest order, in UTC. */
  COUNT(*) AS order_count, /* Orders that were not cancelled. */
  SUM(orders.net_amount) AS lifetime_amount, /* Net amount of these orders. */
  ARG_MAX(orders.store_id, orders.ordered_at)::INT AS last_store_id /* Store of the latest order. */
FROM sales.orders AS orders
INNER JOIN active_customers
  ON orders.customer_id = active_customers.customer_id
WHERE
  orders.status <> 'cancelled' AND orders.ordered_at <= @end_ts
GROUP BY
  orders.customer_id
