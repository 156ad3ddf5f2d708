{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["run"]) }}

comment on type {{ schema }}.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is the first one) | replaced (message_id keeps its place, the payload is new) | follow_up (kept until the leased message of its job key ends).';

alter table {{ schema }}.dead_letter drop column fails_run_at;
alter table {{ schema }}.lease drop column run_ids;
{% for table in ["ready", "scheduled", "blocked"] %}
drop index {{ schema }}.{{ table }}_for_run;
{%- endfor %}
drop index {{ schema }}.job_key_for_run;
drop index {{ schema }}.barrier_for_run;
drop table {{ schema }}.leader;
drop table {{ schema }}.run;
