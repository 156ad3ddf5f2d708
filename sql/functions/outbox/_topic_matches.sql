create or replace function {{ schema }}._topic_matches(p_pattern text, p_topic text) returns boolean
language sql immutable parallel safe
return p_pattern = p_topic
    or (right(p_pattern, 2) = '.*' and starts_with(p_topic, left(p_pattern, -1)));

comment on function {{ schema }}._topic_matches(text, text) is
'Whether a route''s topic, a name or a prefix with a trailing .*, matches a topic. orders.* matches orders.paid, not orders.';
