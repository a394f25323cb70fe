AUDIT (
  name assert_fees_not_above_payments
);

SELECT
  order_date,
  paid_amount,
  fee_amount
FROM @this_model
WHERE
  fee_amount > paid_amount
