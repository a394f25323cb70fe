MODEL (
  name staging.orders,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column ordered_at
  ),
  cron '*/5 * * * *',
  description 'Orders of the tills and the web shop, one row each.',
  grain order_id,
  references (customer_id, store_id),
  tags (staging, orders),
  audits (
    not_null(columns := (order_id, customer_id, store_id, ordered_at)),
    unique_values(columns := order_id)
  )
);

SELECT
  order_id, /* Number of the order. */
  customer_id, /* Customer who ordered. */
  store_id, /* Store that took the order. */
  status, /* completed, returned or cancelled. */
  @cents_to_dollars(discount_cents) AS discount, /* Discount on the whole order. */
  ordered_at /* When the order was placed, in UTC. */
FROM raw.orders
WHERE
  ordered_at BETWEEN @start_ts AND @end_ts
