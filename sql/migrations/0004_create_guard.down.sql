{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["guard"]) }}

drop table {{ schema }}.guard;
