AUDIT (
  name assert_order_total_not_negative
);

SELECT
  order_id,
  order_total
FROM @this_model
WHERE
  order_total < 0
