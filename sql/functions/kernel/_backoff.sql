create or replace function {{ schema }}._backoff(
    p_base interval, p_cap interval, p_factor double precision, p_jitter double precision, p_attempts integer
) returns interval
language sql volatile parallel safe
return make_interval(
    secs => least(
        extract(epoch from p_cap)::double precision,
        extract(epoch from p_base)::double precision * p_factor ^ least(greatest(p_attempts, 0), 30)
    ) * (1 + p_jitter * (2 * random() - 1))
);

comment on function {{ schema }}._backoff(interval, interval, double precision, double precision, integer) is
'Delay after the failure that follows p_attempts earlier ones: least(cap, base * factor^least(attempts, 30)), give or take the jitter. In seconds as double precision, so no count of attempts overflows.';
