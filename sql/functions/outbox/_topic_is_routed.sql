create or replace function {{ schema }}._topic_is_routed(p_topic text) returns boolean
language sql stable
begin atomic
select exists (
    select from {{ schema }}.route r where {{ schema }}._topic_matches(r.topic, p_topic)
);
end;

comment on function {{ schema }}._topic_is_routed(text) is 'Whether any route matches a topic.';
