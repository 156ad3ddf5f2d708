{% from "macros/barrier.sql" import progress %}
create or replace view {{ schema }}.barrier_progress as
{{ progress(schema ~ ".") }};

comment on view {{ schema }}.barrier_progress is
'How each barrier stands: members arrived, failed and outstanding, its last progress, and when it counts as stranded.';
