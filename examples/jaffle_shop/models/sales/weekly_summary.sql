MODEL (
  name sales.weekly_summary,
  kind FULL,
  cron '@weekly',
  description 'Revenue of each complete week, from Sunday to Saturday as @weekly has it.',
  grain week_start,
  tags (sales, revenue)
);

SELECT
  revenue_date - DAYOFWEEK(revenue_date)::INT AS week_start, /* Sunday on which the week began. */
  SUM(order_count) AS order_count, /* Orders that were not cancelled. */
  SUM(revenue) AS revenue, /* Revenue of all stores. */
  (
    SUM(revenue) / SUM(order_count)
  )::DECIMAL(12, 2) AS average_order_value /* Revenue for one order. */
FROM sales.daily_revenue
WHERE
  revenue_date < @execution_date - DAYOFWEEK(@execution_date)::INT
GROUP BY
  1
