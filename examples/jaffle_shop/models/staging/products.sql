MODEL (
  name staging.products,
  kind VIEW,
  cron '@daily',
  description 'The menu, with prices in dollars.',
  grain product_id,
  tags staging
);

SELECT
  product_id, /* Number of the product. */
  product_name, /* Name on the menu. */
  category, /* Jaffle or beverage. */
  @cents_to_dollars(price_cents) AS price, /* Price on the menu today. */
  @cents_to_dollars(cost_cents) AS cost /* What making one costs today. */
FROM raw.products
