MODEL (
  name core.order_totals,
  kind EMBEDDED,
  description 'Sums of the lines of each order. Embedded: its query becomes part of its readers.',
  grain order_id,
  tags (core, orders)
);

SELECT
  order_id, /* Number of the order. */
  SUM(quantity) AS item_count, /* Pieces sold. */
  SUM(amount) AS items_amount, /* Price of all lines, before the discount. */
  SUM(cost) AS items_cost /* What making all lines costs. */
FROM staging.order_items
GROUP BY
  order_id
