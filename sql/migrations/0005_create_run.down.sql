{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["run", "leader"]) }}

alter table {{ schema }}.lease drop column run_ids;
{% for table in ["ready", "scheduled", "blocked"] %}
drop index {{ schema }}.{{ table }}_for_run;
{%- endfor %}
drop index {{ schema }}.job_key_for_run;
drop table {{ schema }}.leader;
drop table {{ schema }}.run;
