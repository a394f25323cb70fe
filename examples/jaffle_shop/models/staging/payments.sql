MODEL (
  name staging.payments,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column paid_at
  ),
  cron '@hourly',
  description 'Payments of the orders. An order may be paid in two parts, with a gift card first.',
  owner 'finance@jaffle-shop.example',
  grain payment_id,
  references order_id,
  tags (staging, finance),
  audits (
    accepted_values(
      "column" := payment_method,
      is_in := ('credit_card', 'debit_card', 'mobile_wallet', 'gift_card', 'cash')
    ),
    accepted_values("column" := status, is_in := ('captured', 'refunded'))
  )
);

SELECT
  payment_id, /* Number of the payment. */
  order_id, /* Order that it pays. */
  payment_method, /* Code of the payment method. */
  status, /* captured, or refunded when the order was returned. */
  @cents_to_dollars(amount_cents) AS amount, /* Amount paid. */
  paid_at /* When the customer paid, in UTC; at most minutes before the order. */
FROM raw.payments
WHERE
  paid_at BETWEEN @start_ts AND @end_ts
