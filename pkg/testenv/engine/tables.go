package engine

// FewItems are fifty rows of public.items.
const FewItems = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT i, 'secret ' || i FROM generate_series(1, 50) i; ANALYZE public.items`
