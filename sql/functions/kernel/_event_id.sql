create or replace function {{ schema }}._event_id(p_event_prefix text, p_message_id bigint) returns uuid
language sql immutable parallel safe
return (p_event_prefix || to_hex(p_message_id | (1::bigint << 63)))::uuid;

comment on function {{ schema }}._event_id(text, bigint) is
'Version-8 UUID of the installation (first half) and a message_id (second half, under the variant bit): the identity of an event whose producer gave none.';
