/* The solution of the homogeneous problem by Fourier transforms, plane by plane. Included by kernels.c. */

/* What a field does beyond the first and the last node of an axis. */
enum { PERIODIC = 0, EVEN = 1, ODD = -1 };

/* A grid's transform: factors (64 a axis) and tables of each axis, forwards and backwards; see preconditioner.py */
struct transform {
    long nx, ny, nz, groups, slabs; /* groups of LANES along z; slabs of LANES frequencies along y */
    const long *beyond;             /* of each axis */
    const long *factors;
    const real *tables;             /* of all axes, one after the other */
    const long *starts;             /* where each begins */
};

/* as `fourier`, of n nodes that go on as their mirror image: of 2 (n - 1) vectors, half of which are needed. Forces at
 * the two ends of an even axis are half of what they are with the image's. work: 10 n vectors */
INLINE void mirrored(int odd, int inverse, long n, const long *factors, const real *table, struct place from,
                     struct place to, vec *work) {
    const long last = n - 1;
    const struct place line = {(real *)work, WIDTH};
    const real end = odd ? 0 : inverse ? 1 : 2, sign = odd ? -1 : 1;
    work[0] = end * load(from.at);
    work[last] = end * load(entry(from, last));
    for (long k = 1; k < last; k++) {
        work[k] = load(entry(from, k));
        work[2 * last - k] = sign * work[k];
    }
    fourier(inverse, 2 * last, factors, table, line, line, work + 2 * last);
    if (odd) work[0] = work[last] = (vec){0};
    for (long k = 0; k < n; k++) store(entry(to, k), work[k]);
}

INLINE void along(int axis, int inverse, const struct transform *t, struct place from, struct place to, vec *work) {
    const long n = axis == 0 ? t->nx : axis == 1 ? t->ny : t->nz, *factors = t->factors + 64 * axis;
    const real *table = t->tables + t->starts[axis + 3 * inverse];
    if (t->beyond[axis] == PERIODIC)
        fourier(inverse, n, factors, table, from, to, work);
    else
        mirrored(t->beyond[axis] == ODD, inverse, n, factors, table, from, to, work);
}

/* how often frequency k of n counts in sums over them */
INLINE real share(long beyond, long k, long n) { return beyond != PERIODIC && (k == 0 || k + 1 == n) ? (real)0.5 : 1; }

/* frequencies of an axis that a symbol is known at, and the place of frequency k among them */
INLINE long known(long beyond, long n) { return beyond == PERIODIC ? n / 2 + 1 : n; }
INLINE int folded(long beyond, long k, long n) { return beyond == PERIODIC && k > n / 2; }

/* a plane (ny, nz) to its spectrum, whose vectors hold LANES frequencies along y: (slab, frequency along z).
 * rows: (slabs LANES, groups); line: as long as the plane; work: of the transforms */
INLINE void plane_forward(const struct transform *t, real *field, vec *spectrum, vec *rows, vec *line, vec *work) {
    const struct place own = {(real *)line, WIDTH};
    for (long g = 0; g < t->groups; g++) {
        const long count = t->nz - g * LANES;
        struct place from = {field + g * WIDTH, 2 * t->nz};
        if (count < LANES) {
            for (long j = 0; j < t->ny; j++) line[j] = load_some(entry(from, j), count);
            from = own;
        }
        along(1, 0, t, from, (struct place){(real *)(rows + g), t->groups * WIDTH}, work);
    }
    for (long b = 0; b < t->slabs; b++) {
        for (long g = 0; g < t->groups; g++) {
            vec tile[LANES];
            for (int l = 0; l < LANES; l++) tile[l] = rows[(b * LANES + l) * t->groups + g];
            transpose(tile);
            for (int l = 0; l < LANES; l++) line[g * LANES + l] = tile[l];
        }
        along(2, 0, t, own, (struct place){(real *)(spectrum + b * t->nz), WIDTH}, work);
    }
}

/* and back, to the place of the spectrum; returns the product of the field with another, if there is one.
 * next: the spectrum after it */
INLINE vec plane_backward(const struct transform *t, vec *spectrum, const vec *next, const real *other, vec *rows,
                          vec *line, vec *work) {
    vec sum = {0};
    for (long b = 0; b < t->slabs; b++) {
        for (long k = 0; k < t->nz; k++) {
            __builtin_prefetch(next + b * t->nz + k, 1);
            if (other) __builtin_prefetch(other + (b * t->nz + k) * WIDTH);
        }
        along(2, 1, t, (struct place){(real *)(spectrum + b * t->nz), WIDTH}, (struct place){(real *)line, WIDTH}, work);
        for (long g = 0; g < t->groups; g++) {
            vec tile[LANES];
            for (int l = 0; l < LANES; l++) tile[l] = line[g * LANES + l];
            transpose(tile);
            for (int l = 0; l < LANES; l++) rows[(b * LANES + l) * t->groups + g] = tile[l];
        }
    }
    for (long g = 0; g < t->groups; g++) {
        const long count = t->nz - g * LANES;
        const struct place own = {(real *)(rows + g), t->groups * WIDTH};
        const struct place field = {(real *)spectrum + g * WIDTH, 2 * t->nz};
        along(1, 1, t, own, count < LANES ? own : field, work);
        for (long j = 0; j < t->ny && count < LANES; j++) store_some(entry(field, j), load(entry(own, j)), count);
    }
    const real *field = (const real *)spectrum;
    const long size = other ? 2 * t->ny * t->nz : 0;
    for (long k = 0; k < size; k += WIDTH)
        sum += load_some(other + k, (size - k) / 2) * load_some(field + k, (size - k) / 2);
    return sum;
}

/* columns along x of all components at one vector of the spectrum: forwards, times the symbol, backwards; returns the
 * product of what they were with what they are then. found: (3, nx) vectors */
INLINE vec columns(int components, const struct transform *t, real *spectrum, const long *layout, const real *symbol,
                    int odd_z, vec *found, vec *work) {
    const long entries = components == 1 ? 1 : 6, nx = t->nx;
    vec *x = found, *y = found + nx, *z = found + 2 * nx, sum = {0};
    for (int c = 0; c < components; c++) {
        const struct place there = {spectrum + c * layout[0], layout[1]};
        for (long i = 0; i < nx; i++) __builtin_prefetch(entry(there, i) + WIDTH, 1); /* for the next call */
        along(0, 0, t, there, (struct place){(real *)(found + c * nx), WIDTH}, work);
    }
    for (long i = 0; i < nx; i++) {
        const int odd_x = folded(t->beyond[0], i, nx);
        const real *at = symbol + (odd_x ? nx - i : i) * entries * LANES;
        if (components == 1) {
            const vec a = x[i];
            x[i] *= doubled(load(at), 0);
            sum += share(t->beyond[0], i, nx) * a * x[i];
            continue;
        }
        const real yz = odd_z ? -1 : 1, xy = odd_x ? -1 : 1;
        vec s[6];
#pragma GCC unroll 6
        for (int e = 0; e < 6; e++) s[e] = doubled(load(at + e / 2 * WIDTH), e % 2);
        s[3] *= yz;
        s[4] *= yz * xy;
        s[5] *= xy;
        const vec a = x[i], b = y[i], c = z[i];
        x[i] = s[0] * a + s[5] * b + s[4] * c;
        y[i] = s[5] * a + s[1] * b + s[3] * c;
        z[i] = s[4] * a + s[3] * b + s[2] * c;
        sum += a * x[i] + b * y[i] + c * z[i];
    }
    for (int c = 0; c < components; c++)
        along(0, 1, t, (struct place){(real *)(found + c * nx), WIDTH},
              (struct place){spectrum + c * layout[0], layout[1]}, work);
    return sum;
}

/* The inverse of the homogeneous problem on a grid. layout: how far components and planes of q lie apart.
 * symbol (slabs, nz/2 + 1, nx/2 + 1, 1 or 6, LANES): its inverse over the grid's size, at the frequencies up to half
 * of x and z and all of y, and a vector more. It is even but for the entries ij (order 11 22 33 23 13 12), which are odd
 * in i and in j. n: nodes along the axes, then what is beyond them; axes that are not periodic, which only one component
 * may have, have all frequencies in the symbol. factors, tables: of the transforms. */
struct inverse {
    const long *layout;
    const real *symbol;
    const long *n, *factors;
    const real *tables;
    const long *starts;
};

/* what a call works with: the transform, and its memory; see plane_forward */
struct bench {
    struct transform t;
    vec *rows, *line, *work;
};

INLINE struct bench bench_of(const struct inverse *a, real *memory) {
    const long *n = a->n, groups = (n[2] + LANES - 1) / LANES, slabs = (n[1] + LANES - 1) / LANES;
    const long line = n[1] > groups * LANES ? n[1] : groups * LANES, columns = 3 * n[0];
    vec *rows = aligned(memory), *own = rows + slabs * LANES * groups;
    return (struct bench){{n[0], n[1], n[2], groups, slabs, n + 3, a->factors, a->tables, a->starts}, rows, own,
                          own + (line > columns ? line : columns)};
}

enum { UNIT = 16 }; /* vectors of the spectrum whose columns are one unit of work */

/* units of the spectrum */
INLINE long units_of(const struct inverse *a) { return (a->n[1] + LANES - 1) / LANES * ((a->n[2] + UNIT - 1) / UNIT); }

/* planes [first, end): r -= alpha (q + edge), edge being missing from the first plane of q; their spectra to q.
 * q: aligned to vectors; every plane has room for its spectrum, which takes its place. work: see call.h */
INLINE void onto_planes(int components, const struct inverse *a, real *r, real *q, const real *edge, real alpha, long first,
                        long end, real *work) {
    const struct bench b = bench_of(a, work);
    const long *n = a->n, plane = 2 * n[1] * n[2];
    for (long k = 0; k < b.t.slabs * LANES * b.t.groups; k++) b.rows[k] = (vec){0};
    for (long i = first; i < end; i++)
        for (int c = 0; c < components; c++) {
            real *here = r + (c * n[0] + i) * plane, *there = q + c * a->layout[0] + i * a->layout[1];
            if (edge && i == first) add_to(there, edge + c * plane, 1, plane);
            if (alpha != 0) add_to(here, there, -alpha, plane);
            plane_forward(&b.t, here, (vec *)there, b.rows, b.line, b.work);
        }
}

/* units [first, end) of the spectra: what `backwards` makes the homogeneous problem's solution of; norm[unit] = its
 * products with r, of both parts together, by Parseval's theorem */
INLINE void along_columns(int components, const struct inverse *a, real *q, double *norm, long first, long end,
                          real *work) {
    const struct bench b = bench_of(a, work);
    const long *n = a->n, *beyond = n + 3, blocks = (n[2] + UNIT - 1) / UNIT;
    const long line = known(beyond[0], n[0]) * (components == 1 ? 1 : 6) * LANES;
    for (long unit = first; unit < end; unit++) {
        const long s = unit / blocks, from = unit % blocks * UNIT, to = from + UNIT < n[2] ? from + UNIT : n[2];
        norm[unit] = 0;
        for (long k = from; k < to; k++) {
            const int odd_z = folded(beyond[2], k, n[2]);
            const real *at = a->symbol + (s * known(beyond[2], n[2]) + (odd_z ? n[2] - k : k)) * line;
            const vec part = columns(components, &b.t, q + (s * n[2] + k) * WIDTH, a->layout, at, odd_z, b.line, b.work);
            for (int lane = 0; lane < WIDTH; lane++)
                norm[unit] += (double)(part[lane] * share(beyond[2], k, n[2]) * share(beyond[1], s * LANES + lane / 2, n[1]));
        }
    }
}

/* what `along_columns` left of plane i becomes the solution there; sums[2] gathers its products with r, if r is given */
INLINE void backwards(int components, const struct inverse *a, real *q, long i, const real *r, double *sums, real *work) {
    const struct bench b = bench_of(a, work);
    const long plane = 2 * a->n[1] * a->n[2];
    for (int c = 0; c < components; c++) {
        vec *there = (vec *)(q + c * a->layout[0] + i * a->layout[1]);
        const real *other = r ? r + (c * a->n[0] + i) * plane : NULL;
        const vec part = plane_backward(&b.t, there, there + a->layout[0] / WIDTH, other, b.rows, b.line, b.work);
        for (int lane = 0; lane < WIDTH && r; lane++) sums[lane & 1] += (double)part[lane];
    }
}

/* compiled once for all materials: the code of the transforms is long */
#define TRANSFORMS(components)                                                                                        \
    static __attribute__((noinline)) void onto_planes##components(                                                    \
        const struct inverse *a, real *r, real *q, const real *edge, real alpha, long first, long end, real *work) {  \
        onto_planes(components, a, r, q, edge, alpha, first, end, work);                                              \
    }                                                                                                                 \
    static __attribute__((noinline)) void along_columns##components(                                                  \
        const struct inverse *a, real *q, double *norm, long first, long end, real *work) {                           \
        along_columns(components, a, q, norm, first, end, work);                                                      \
    }                                                                                                                 \
    static __attribute__((noinline)) void backwards##components(                                                      \
        const struct inverse *a, real *q, long i, const real *r, double *sums, real *work) {                          \
        backwards(components, a, q, i, r, sums, work);                                                                \
    }

TRANSFORMS(1)
TRANSFORMS(3)
#define ONE_OF(components, name) ((components) == 1 ? name##1 : name##3)
