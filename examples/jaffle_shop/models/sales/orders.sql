MODEL (
  name sales.orders,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column ordered_at
  ),
  cron '@hourly',
  description 'Orders with their totals, as booked within the hour.',
  grain order_id,
  references (customer_id, store_id),
  tags (sales, orders),
  audits (assert_order_total_not_negative, unique_values(columns := order_id))
);

SELECT
  orders.order_id, /* Number of the order. */
  orders.customer_id, /* Customer who ordered. */
  orders.store_id, /* Store that took the order. */
  orders.status, /* completed, returned or cancelled. */
  totals.item_count, /* Pieces sold. */
  totals.items_amount, /* Price of all lines. */
  orders.discount, /* Discount on the whole order. */
  totals.items_amount - orders.discount AS order_total, /* What the customer paid. */
  CASE
    WHEN orders.status = 'completed'
    THEN totals.items_amount - orders.discount
    ELSE 0
  END AS net_amount, /* Order total, and nothing for a return or cancellation. */
  totals.items_cost, /* What making all lines costs. */
  orders.ordered_at /* When the order was placed, in UTC. */
FROM staging.orders AS orders
INNER JOIN core.order_totals AS totals
  ON orders.order_id = totals.order_id
WHERE
  orders.ordered_at BETWEEN @start_ts AND @end_ts
