create or replace function {{ schema }}._barrier_event_id(
    p_event_prefix text, p_epoch bigint, p_opened_at timestamptz, p_what text
) returns uuid
language sql immutable parallel safe
return (
    with digest as (
        select encode(sha256(convert_to(
            p_event_prefix || '/' || p_epoch || '/'
            || extract(epoch from p_opened_at - timestamptz '2000-01-01 00:00:00+00') || '/' || p_what,
            'UTF8'
        )), 'hex') as hex
    )

    select (substr(d.hex, 1, 12) || '8' || substr(d.hex, 14, 3) || '8' || substr(d.hex, 18, 15))::uuid from digest d
);

comment on function {{ schema }}._barrier_event_id(text, bigint, timestamptz, text) is
'Version-8 UUID of what an epoch of a barrier says, callback or failure: however often it is said, it is the same event. An epoch that is drawn again after a failover says others, as it was opened at another time.';
