/* Matrix-free fully integrated trilinear (Q1) elements on a periodic voxel grid, and their preconditioner, the solution
 * of the homogeneous problem. Compiled once for float and once for double (-DREAL=...); see compiled.py. 2D is a grid
 * with nx = 1.
 *
 * Two load cases travel together as the real and the imaginary part of complex fields (neither notices the other): the
 * symbol of the preconditioner is real, so that one complex Fourier transform serves both, and costs less than two real
 * ones.
 *
 * Large fields live in main memory, which is slower than the arithmetic: an iteration of conjugate gradients is two
 * functions, `elastic` (or its kin) and `precondition3`, that do all that a plane of the field needs while it is in
 * cache.
 */
#include "vectors.h"
#include "team.h"
#include "fourier.h"
#include "preconditioner.h"
#include "elements.h"
#include "call.h"

/* How many work together, on how many pieces of the grid, and the memory of each: of the transforms and of the elements,
 * and what the members share: norms of units of the spectrum */
struct crew {
    long size, pieces;
    real *work, *rows;
    long work_size, rows_size;
    double *norms;
};

static struct crew crew_of(const struct call *c, int components) {
    const struct memory m = memory_of(c->grid.at, components, c->pieces);
    return (struct crew){c->threads, c->pieces, c->work.at, c->rows.at, m.work, m.rows, c->units.at};
}

static struct inverse inverse_of(const struct call *c) {
    return (struct inverse){c->layout.at, c->symbol.at, c->grid.at, c->factors.at, c->tables.at, c->starts.at};
}

static struct product product_of(const struct call *c) {
    return (struct product){c->u.at, c->force.at, c->layout.at, c->material.at, c->grid.at, c->spacing.at,
                            c->macro.at, c->pieces, c->edges.at, c->sums.at};
}

INLINE double sum_of(const double *values, long count, long apart) {
    double sum = 0;
    for (long k = 0; k < count; k++) sum += values[k * apart];
    return sum;
}

/* r -= alpha q, preconditioned, as `along_columns` leaves it in q; returns its product with the new r. a: of a product
 * whose force q is, or NULL */
INLINE double descend(int components, const struct inverse *inverse, const struct product *a, real *r, real *q, real alpha,
                      const struct crew *crew, struct team *team, long number) {
    real *work = crew->work + number * crew->work_size;
    const long nx = inverse->n[0], pieces = crew->pieces, units = units_of(inverse);
    for (long piece; (piece = claim(team)) < pieces;) {
        const real *edge = a ? edge_before(components, a, piece) : NULL;
        const long first = nx * piece / pieces, end = nx * (piece + 1) / pieces;
        ONE_OF(components, onto_planes)(inverse, r, q, edge, alpha, first, end, work);
    }
    together(team);
    for (long unit; (unit = claim(team)) < units;)
        ONE_OF(components, along_columns)(inverse, q, crew->norms, unit, unit + 1, work);
    together(team);
    return sum_of(crew->norms, units, 1);
}

/* q = the homogeneous problem's solution for r; sums (pieces, 2): r . q, of either part */
struct solution {
    struct crew crew;
    struct inverse inverse;
    real *r, *q;
    double *sums;
};

INLINE void precondition(int components, struct team *team, long number, const struct solution *s) {
    const long nx = s->inverse.n[0], pieces = s->crew.pieces;
    descend(components, &s->inverse, NULL, s->r, s->q, 0, &s->crew, team, number);
    for (long piece; (piece = claim(team)) < pieces;) {
        double *sums = s->sums + 2 * piece;
        sums[0] = sums[1] = 0;
        for (long i = nx * piece / pieces; i < nx * (piece + 1) / pieces; i++)
            ONE_OF(components, backwards)
            (&s->inverse, s->q, i, s->r, sums, s->crew.work + number * s->crew.work_size);
    }
}

#define PRECONDITION(components)                                                                                      \
    static void precondition_by##components(struct team *team, long number, void *given) {                            \
        precondition(components, team, number, given);                                                                \
    }                                                                                                                 \
    long voxelfe_precondition##components(struct call *c) {                                                           \
        const long wrong = misfit(c, components, 0, 1);                                                               \
        if (wrong) return wrong;                                                                                      \
        struct solution s = {crew_of(c, components), inverse_of(c), c->r.at, c->force.at, c->sums.at};                \
        teamwork(c->threads, precondition_by##components, &s);                                                        \
        return 0;                                                                                                     \
    }

PRECONDITION(1)
PRECONDITION(3)

/* Conjugate gradients for K x = r from x = 0 until the residual's norm is at its goal, and no more than limit steps.
 * The product's force is r, preconditioned, and norm their product; its u has room for the direction.
 *
 * Both load cases are one system, with the same alpha and beta: their operator is the same, and so is the number of steps
 * that they need. Then the norm is known from the spectrum, and the way back into space is part of the next product. */
struct descent {
    struct crew crew;
    struct product product;
    struct inverse inverse;
    real *x, *r;
    double norm, goal;
    long limit, used;
};

INLINE void gradients(int components, int laws, struct team *team, long number, struct descent *d) {
    const struct product *a = &d->product;
    const struct crew *crew = &d->crew;
    const long size = 2 * components * a->n[0] * a->n[1] * a->n[2], pieces = crew->pieces;
    const long mine = begin_of(team, number, size), others = begin_of(team, number + 1, size);
    real *rows = crew->rows + number * crew->rows_size, *work = crew->work + number * crew->work_size;
    struct step step = {d->x, 0, 0, NULL};
    double norm = d->norm;
    long used = 0;
    __builtin_memset(d->x + mine, 0, (others - mine) * sizeof(real));
    __builtin_memset(a->u + mine, 0, (others - mine) * sizeof(real));
    together(team);
    for (; used < d->limit && norm > d->goal; used++) {
        for (long piece; (piece = claim(team)) < pieces;) begin(components, a, &step, piece, work);
        together(team);
        for (long piece; (piece = claim(team)) < pieces;) apply(components, laws, a, &step, piece, rows, work);
        together(team);
        const double curvature = sum_of(a->sums, pieces, 20) + sum_of(a->sums + 1, pieces, 20), before = norm;
        if (!(curvature > 0)) break;
        step.alpha = (real)(norm / curvature);
        norm = descend(components, &d->inverse, a, d->r, a->force, step.alpha, crew, team, number);
        step.beta = (real)(norm / before);
        step.inverse = &d->inverse;
    }
    add_to(d->x + mine, a->u + mine, step.alpha, others - mine);
    if (number == 0) d->used = used;
}

/* a product by itself */
struct multiplication {
    struct crew crew;
    struct product product;
};

INLINE void multiply(int components, int laws, struct team *team, long number, const struct multiplication *m) {
    const struct product *a = &m->product;
    const long plane = 2 * a->n[1] * a->n[2];
    for (long piece; (piece = claim(team)) < a->pieces;)
        apply(components, laws, a, NULL, piece, m->crew.rows + number * m->crew.rows_size, NULL);
    together(team);
    for (long piece; a->pieces > 1 && (piece = claim(team)) < a->pieces;)
        for (int c = 0; c < components; c++)
            add_to(a->force + c * a->layout[0] + first_of(a, piece) * a->layout[1],
                   edge_before(components, a, piece) + c * plane, 1, plane);
}

/* voxelfe_product_...: the force of macro + B u, and its sums; 0. voxelfe_gradients_...: see above, the steps. Both: a
 * negative number, see call.h, if an array does not fit. */
#define MATERIAL(name, components, laws)                                                                              \
    static void multiply_##name(struct team *team, long number, void *given) {                                        \
        multiply(components, laws, team, number, given);                                                              \
    }                                                                                                                 \
    long voxelfe_product_##name(struct call *c) {                                                                     \
        const long wrong = misfit(c, components, laws, 0);                                                            \
        if (wrong) return wrong;                                                                                      \
        struct multiplication m = {crew_of(c, components), product_of(c)};                                            \
        teamwork(c->threads, multiply_##name, &m);                                                                    \
        return 0;                                                                                                     \
    }                                                                                                                 \
    static void gradients_by_##name(struct team *team, long number, void *given) {                                    \
        gradients(components, laws, team, number, given);                                                             \
    }                                                                                                                 \
    long voxelfe_gradients_##name(struct call *c) {                                                                   \
        const long wrong = misfit(c, components, laws, 1);                                                            \
        if (wrong) return wrong;                                                                                      \
        struct descent d = {crew_of(c, components), product_of(c), inverse_of(c), c->x.at, c->r.at, c->norms.at[0],   \
                            c->norms.at[1], c->limit, 0};                                                             \
        teamwork(c->threads, gradients_by_##name, &d);                                                                \
        return d.used;                                                                                                \
    }

MATERIAL(conductor, 1, 1)
MATERIAL(elastic, 3, 2)
MATERIAL(anisotropic, 3, 21)

/* sums[4]: of the products of a's real and imaginary parts with b's, the latter's faster; threads of BLAS would spin */
void voxelfe_products(const double *restrict a, const double *restrict b, long size, double *sums) {
    double same_real = 0, mixed = 0, other = 0, same_imaginary = 0;
#pragma omp simd reduction(+ : same_real, mixed, other, same_imaginary)
    for (long k = 0; k < size; k += 2) {
        same_real += a[k] * b[k];
        mixed += a[k] * b[k + 1];
        other += a[k + 1] * b[k];
        same_imaginary += a[k + 1] * b[k + 1];
    }
    sums[0] = same_real;
    sums[1] = mixed;
    sums[2] = other;
    sums[3] = same_imaginary;
}

/* between the precisions: r = factor rest; u += factor x; u = factor x; and within one: r *= factor.
 * factor[2]: of either part */
struct conversion {
    const double *from;
    double *to;
    const real *near;
    real *here;
    const double *factor;
    long size;
};

#define CONVERSION(name, ...)                                                                                      \
    static void name##_by(struct team *team, long number, void *given) {                                              \
        const struct conversion *c = given;                                                                           \
        const double one = c->factor[0], other = c->factor[1];                                                        \
        const long end = begin_of(team, number + 1, c->size / 2);                                                     \
        for (long pair = begin_of(team, number, c->size / 2); pair < end; pair++) __VA_ARGS__                         \
    }

CONVERSION(narrow, {
    c->here[2 * pair] = (real)(one * c->from[2 * pair]);
    c->here[2 * pair + 1] = (real)(other * c->from[2 * pair + 1]);
})
CONVERSION(widen, {
    c->to[2 * pair] += one * (double)c->near[2 * pair];
    c->to[2 * pair + 1] += other * (double)c->near[2 * pair + 1];
})
CONVERSION(replace, {
    c->to[2 * pair] = one * (double)c->near[2 * pair];
    c->to[2 * pair + 1] = other * (double)c->near[2 * pair + 1];
})
CONVERSION(scale, {
    c->here[2 * pair] *= (real)one;
    c->here[2 * pair + 1] *= (real)other;
})

void voxelfe_narrow(const double *rest, real *r, const double *factor, long size, long threads) {
    struct conversion c = {.from = rest, .here = r, .factor = factor, .size = size};
    teamwork(threads, narrow_by, &c);
}

void voxelfe_widen(const real *x, double *u, const double *factor, long size, long threads) {
    struct conversion c = {.near = x, .to = u, .factor = factor, .size = size};
    teamwork(threads, widen_by, &c);
}

void voxelfe_replace(const real *x, double *u, const double *factor, long size, long threads) {
    struct conversion c = {.near = x, .to = u, .factor = factor, .size = size};
    teamwork(threads, replace_by, &c);
}

void voxelfe_scale(real *r, const double *factor, long size, long threads) {
    struct conversion c = {.here = r, .factor = factor, .size = size};
    teamwork(threads, scale_by, &c);
}

/* Conjugate gradients with the diagonal as preconditioner for a symmetric matrix in compressed rows. work: 3 vectors.
 * Returns the iterations, or -1 if the residual, in the preconditioner's norm, was not reduced by `reduction`. */
long voxelfe_jacobi_gradients(const int *restrict start, const int *restrict column, const real *restrict value,
                              const real *restrict inverse, const real *restrict force, real *restrict x,
                              real *restrict work, long size, double reduction, long limit) {
    real *restrict r = work, *restrict p = work + size, *restrict q = work + 2 * size;
    double norm = 0;
    for (long k = 0; k < size; k++) {
        x[k] = 0;
        r[k] = force[k];
        p[k] = inverse[k] * r[k];
        norm += (double)(r[k] * p[k]);
    }
    const double goal = reduction * reduction * norm;
    for (long step = 1; step <= limit; step++) {
        double curvature = 0;
        for (long row = 0; row < size; row++) {
            real sum = 0;
            for (int k = start[row]; k < start[row + 1]; k++) sum += value[k] * p[column[k]];
            q[row] = sum;
            curvature += (double)(sum * p[row]);
        }
        const real alpha = (real)(norm / curvature);
        double next = 0;
        for (long k = 0; k < size; k++) {
            x[k] += alpha * p[k];
            r[k] -= alpha * q[k];
            next += (double)(inverse[k] * r[k] * r[k]);
        }
        if (next <= goal) return step;
        const real beta = (real)(next / norm);
        norm = next;
        for (long k = 0; k < size; k++) p[k] = inverse[k] * r[k] + beta * p[k];
    }
    return -1;
}
