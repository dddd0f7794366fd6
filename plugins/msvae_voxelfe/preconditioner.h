/* The solution of the homogeneous problem by Fourier transforms, plane by plane. Included by kernels.c. */

/* A grid's transform: factors (64 a axis) and tables of each axis, forwards and backwards; see preconditioner.py */
struct transform {
    long nx, ny, nz, groups, slabs; /* groups of LANES along z; slabs of LANES frequencies along y */
    const long *factors;
    const real *const *tables;
};

INLINE void along(int axis, int inverse, const struct transform *t, struct place from, struct place to, vec *work) {
    const long n = axis == 0 ? t->nx : axis == 1 ? t->ny : t->nz;
    fourier(inverse, n, t->factors + 64 * axis, t->tables[axis + 3 * inverse], from, to, work);
}

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

/* and back, to the place of the spectrum; returns the product of the field with another. next: the spectrum after it */
INLINE vec plane_backward(const struct transform *t, vec *spectrum, const vec *next, const real *other, vec *rows,
                          vec *line, vec *work) {
    vec sum = {0};
    for (long b = 0; b < t->slabs; b++) {
        for (long k = 0; k < t->nz; k++) {
            __builtin_prefetch(next + b * t->nz + k, 1);
            __builtin_prefetch(other + (b * t->nz + k) * WIDTH);
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
        const struct place own = {(real *)(rows + g), t->groups * WIDTH};
        along(1, 1, t, own, own, work);
    }
    for (long j = 0; j < t->ny; j++)
        for (long g = 0; g < t->groups; g++) {
            const long at = 2 * (j * t->nz + g * LANES), count = t->nz - g * LANES;
            const real *found = (const real *)(rows + j * t->groups + g);
            store_some((real *)spectrum + at, load(found), count);
            sum += load_some(other + at, count) * load_some(found, count);
        }
    return sum;
}

/* columns along x of all components at one vector of the spectrum: forwards, times the symbol, backwards.
 * found: (3, nx) vectors */
INLINE void columns(int components, const struct transform *t, real *spectrum, const long *layout, const real *symbol,
                    int odd_z, vec *found, vec *work) {
    const long entries = components == 1 ? 1 : 6, nx = t->nx, half = nx / 2 + 1;
    vec *x = found, *y = found + nx, *z = found + 2 * nx;
    for (int c = 0; c < components; c++) {
        const struct place there = {spectrum + c * layout[0], layout[1]};
        for (long i = 0; i < nx; i++) __builtin_prefetch(entry(there, i) + WIDTH, 1); /* for the next call */
        along(0, 0, t, there, (struct place){(real *)(found + c * nx), WIDTH}, work);
    }
    for (long i = 0; i < nx; i++) {
        const int odd_x = i >= half;
        const real *at = symbol + (odd_x ? nx - i : i) * entries * LANES;
        if (components == 1) {
            x[i] *= doubled(load(at), 0);
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
    }
    for (int c = 0; c < components; c++)
        along(0, 1, t, (struct place){(real *)(found + c * nx), WIDTH},
              (struct place){spectrum + c * layout[0], layout[1]}, work);
}

/* The inverse of the homogeneous problem on a grid. layout: how far components and planes of q lie apart.
 * symbol (slabs, nz/2 + 1, nx/2 + 1, 1 or 6, LANES): its inverse over the grid's size, at the frequencies up to half
 * of x and z and all of y, and a vector more. It is even but for the entries ij (order 11 22 33 23 13 12), which are odd
 * in i and in j. factors, tables: of the transforms. */
struct inverse {
    const long *layout;
    const real *symbol;
    const long *n, *factors;
    const real *const *tables;
};

/* r -= alpha q; then q = the homogeneous problem's solution for r; sums[2] = r . q, for either part.
 * q: aligned to vectors; every plane has room for its spectrum, which takes its place. work: see preconditioner.py */
INLINE void homogeneous(int components, const struct inverse *a, real *r, real *q, const real *alpha, double *sums,
                        real *work) {
    const long *n = a->n, *layout = a->layout, groups = (n[2] + LANES - 1) / LANES, slabs = (n[1] + LANES - 1) / LANES;
    const struct transform t = {n[0], n[1], n[2], groups, slabs, a->factors, a->tables};
    const long plane = 2 * n[1] * n[2], entries = components == 1 ? 1 : 6, half = (n[0] / 2 + 1) * entries * LANES;
    const long line = n[1] > groups * LANES ? n[1] : groups * LANES, column = 3 * n[0];
    vec *rows = (vec *)(((size_t)work + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec));
    vec *own = rows + slabs * LANES * groups, *rest = own + (line > column ? line : column);
    const vec minus = -repeated(alpha);
    for (long k = 0; k < slabs * LANES * groups; k++) rows[k] = (vec){0};
    for (long i = 0; i < n[0]; i++)
        for (int c = 0; c < components; c++) {
            real *here = r + (c * n[0] + i) * plane, *there = q + c * layout[0] + i * layout[1];
            for (long k = 0; k < plane; k += WIDTH) {
                const long count = (plane - k) / 2;
                store_some(here + k, load_some(here + k, count) + minus * load_some(there + k, count), count);
            }
            plane_forward(&t, here, (vec *)there, rows, own, rest);
        }
    for (long b = 0; b < slabs; b++)
        for (long k = 0; k < n[2]; k++) {
            const int odd_z = k > n[2] / 2;
            const real *at = a->symbol + (b * (n[2] / 2 + 1) + (odd_z ? n[2] - k : k)) * half;
            columns(components, &t, q + (b * n[2] + k) * WIDTH, layout, at, odd_z, own, rest);
        }
    sums[0] = sums[1] = 0;
    for (long i = 0; i < n[0]; i++)
        for (int c = 0; c < components; c++) {
            vec *there = (vec *)(q + c * layout[0] + i * layout[1]);
            const vec *next = there + layout[0] / WIDTH;
            const vec part = plane_backward(&t, there, next, r + (c * n[0] + i) * plane, rows, own, rest);
            for (int lane = 0; lane < WIDTH; lane++) sums[lane & 1] += (double)part[lane];
        }
}
