create or replace function {{ schema }}._barrier_event_id(p_event_prefix text, p_epoch bigint, p_what text) returns uuid
language sql immutable parallel safe
return (
    with digest as (
        select encode(sha256(convert_to(p_event_prefix || '/' || p_epoch || '/' || p_what, 'UTF8')), 'hex') as hex
    )

    select (substr(d.hex, 1, 12) || '8' || substr(d.hex, 14, 3) || '8' || substr(d.hex, 18, 15))::uuid from digest d
);

comment on function {{ schema }}._barrier_event_id(text, bigint, text) is
'Version-8 UUID of what an epoch of a barrier says, callback or failure: however often it is said, it is the same event.';
