create or replace function {{ schema }}._event_id(p_event_prefix text, p_message_id bigint, p_enqueued_at timestamptz)
returns uuid
language sql immutable parallel safe
-- A standby that is promoted without the last it was sent draws ids again that are known outside: the milliseconds, in
-- the 22 bits above the id's lowest 40, keep the event that is lost and the one that has its id apart.
return (
    p_event_prefix || to_hex(
        (1::bigint << 63) | int8xor(
            p_message_id,
            ((date_part('epoch', p_enqueued_at - timestamptz '2000-01-01 00:00:00+00') * 1000)::bigint & 4194303) << 40
        )
    )
)::uuid;

comment on function {{ schema }}._event_id(text, bigint, timestamptz) is
'Version-8 UUID of the installation (first half) and a message_id with its time (second half, under the variant bit): the identity of an event whose producer gave none. Neither changes as long as the event lives.';
