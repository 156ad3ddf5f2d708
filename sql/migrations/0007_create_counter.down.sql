{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["counter", "counter_delta"]) }}

drop type {{ schema }}.maintenance_job;
drop table {{ schema }}.maintenance_setting;
drop table {{ schema }}.maintenance_run;
drop table {{ schema }}.counter_fold;
drop table {{ schema }}.counter_delta;
drop table {{ schema }}.counter;
drop sequence {{ schema }}.counter_seq;
drop type {{ schema }}.counted;
