MODEL (
  name finance.reconciliation,
  kind FULL,
  cron '@daily',
  description 'Booked orders against their lines as of today and against the payments, for each complete day.',
  owner 'finance@jaffle-shop.example',
  grain order_date,
  tags finance,
  audits (
    assert_no_unpaid_orders,
    assert_fees_not_above_payments,
    unique_values(columns := order_date)
  )
);

WITH paid AS (
  SELECT
    payments.order_id,
    SUM(payments.amount) AS paid_amount,
    SUM(payments.amount * methods.fee_rate) AS fee_amount
  FROM staging.payments AS payments
  INNER JOIN reference.payment_methods AS methods
    ON payments.payment_method = methods.payment_method
  GROUP BY
    payments.order_id
)
SELECT
  orders.ordered_at::DATE AS order_date, /* Day in UTC. */
  COUNT(*) AS order_count, /* Orders that were not cancelled. */
  SUM(orders.order_total) AS booked_amount, /* What the orders were booked with. */
  SUM(totals.items_amount - orders.discount) AS current_amount, /* The same from the lines as they are now; differs when a line was changed later. */
  SUM(COALESCE(paid.paid_amount, 0)) AS paid_amount, /* What the customers paid. */
  SUM(COALESCE(paid.fee_amount, 0))::DECIMAL(12, 2) AS fee_amount, /* What the payment providers keep. */
  COUNT_IF(paid.order_id IS NULL)::INT AS unpaid_order_count, /* Orders without any payment. */
  SUM(orders.order_total) - SUM(COALESCE(paid.paid_amount, 0)) AS difference /* Booked less paid. */
FROM sales.orders AS orders
INNER JOIN core.order_totals AS totals
  ON orders.order_id = totals.order_id
LEFT JOIN paid
  ON orders.order_id = paid.order_id
WHERE
  orders.status <> 'cancelled' AND orders.ordered_at < @execution_date
GROUP BY
  orders.ordered_at::DATE
