AUDIT (
  name assert_no_unpaid_orders,
  blocking FALSE
);

SELECT
  order_date,
  unpaid_order_count,
  difference
FROM @this_model
WHERE
  unpaid_order_count > 0
