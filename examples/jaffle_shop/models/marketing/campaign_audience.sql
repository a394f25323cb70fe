MODEL (
  name marketing.campaign_audience,
  kind FULL,
  cron '@daily',
  description 'Customers who agreed to receive campaigns, with the offer for their segment.',
  owner 'growth',
  grain customer_id,
  tags (marketing, pii),
  audits (
    not_null(columns := (customer_id, email, offer))
  )
);

SELECT
  segments.customer_id, /* Number of the customer. */
  customers.email, /* Address of the customer. */
  customers.home_store_id, /* Store that the offer is for. */
  segments.segment, /* Segment of the customer. */
  CASE segments.segment
    WHEN 'champion'
    THEN 'early_menu'
    WHEN 'loyal'
    THEN 'free_beverage'
    WHEN 'lapsing'
    THEN 'come_back'
    ELSE 'two_for_one'
  END AS offer /* Offer that the segment receives. */
FROM marketing.customer_segments AS segments
INNER JOIN staging.customers AS customers
  ON segments.customer_id = customers.customer_id
WHERE
  customers.marketing_opt_in
