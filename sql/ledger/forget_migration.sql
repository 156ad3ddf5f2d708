delete from {{ schema }}.migration
where migration = '{{ migration }}';
