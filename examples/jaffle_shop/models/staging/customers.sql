MODEL (
  name staging.customers,
  kind VIEW,
  cron '@daily',
  description 'One row for each customer: the latest version that the back office has sent.',
  grain customer_id,
  tags (staging, pii),
  audits (not_null(columns := (customer_id, email)), unique_values(columns := customer_id))
);

SELECT
  customer_id, /* Number of the customer. */
  first_name, /* Given name. */
  last_name, /* Family name. */
  LOWER(TRIM(email)) AS email, /* Address in lower case. */
  home_store_id, /* Store that the customer chose as theirs. */
  marketing_opt_in, /* Whether the customer agreed to receive campaigns. */
  created_at, /* When the customer registered, in UTC. */
  updated_at /* When the back office last changed the customer, in UTC. */
FROM raw.customers
QUALIFY
  ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY updated_at DESC) = 1
