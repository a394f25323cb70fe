AUDIT (
  name assert_every_order_has_payment,
  standalone TRUE,
  cron '@daily',
  owner 'finance@jaffle-shop.example',
  description 'Orders of the interval that were not cancelled and have no payment.'
);

SELECT
  orders.order_id,
  orders.ordered_at
FROM staging.orders AS orders
LEFT JOIN staging.payments AS payments
  ON orders.order_id = payments.order_id
WHERE
  orders.ordered_at BETWEEN @start_ts AND @end_ts
  AND orders.status <> 'cancelled'
  AND payments.order_id IS NULL
