MODEL (
  name staging.order_items,
  kind VIEW,
  cron '@hourly',
  description 'Lines of the orders, priced as they were sold and costed as of today.',
  grain order_item_id,
  references (order_id, product_id),
  tags (staging, orders),
  audits (
    not_null(columns := (order_item_id, order_id, product_id))
  )
);

SELECT
  items.order_item_id, /* Number of the line. */
  items.order_id, /* Order of the line. */
  items.product_id, /* Product sold. */
  products.category, /* Category of the product. */
  items.quantity, /* Pieces sold. */
  @cents_to_dollars(items.unit_price_cents) AS unit_price, /* Price of one piece when it was sold. */
  @cents_to_dollars(items.quantity * items.unit_price_cents) AS amount, /* Price of the line. */
  items.quantity * products.cost AS cost /* What making the line costs. */
FROM raw.order_items AS items
INNER JOIN staging.products AS products
  ON items.product_id = products.product_id
