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
#include "elements.h"
#include "fourier.h"
#include "preconditioner.h"

/* r -= alpha q; q = the homogeneous problem's solution for r; sums[2] = r . q. Compiled once for all materials */
#define PRECONDITION(components)                                                                                      \
    void precondition##components(real *r, real *q, const long *layout, const real *alpha, const real *symbol,        \
                                  const long *n, const long *factors, const real *const *tables, double *sums,        \
                                  real *work) {                                                                       \
        const struct inverse inverse = {layout, symbol, n, factors, tables};                                          \
        homogeneous(components, &inverse, r, q, alpha, sums, work);                                                   \
    }

PRECONDITION(1)
PRECONDITION(3)

/* x += alpha p; alpha[2]: of either part */
INLINE void add(real *restrict x, const real *restrict p, const real *alpha, long size) {
    const vec a = repeated(alpha);
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) store(x + k, load(x + k) + a * load(p + k));
    for (; k < size; k++) x[k] += alpha[k & 1] * p[k];
}

/* Conjugate gradients for K x = r from x = 0, of both load cases, until each residual's norm is at its goal[2], and no
 * more than limit steps; returns these. q is r, preconditioned, and norm[2] their products. a.u: room for the direction.
 * A load case that is there rests while the other goes on. */
INLINE long gradients(int components, int laws, const struct product *a, const struct inverse *inverse, real *r,
                      const double *given, const double *goal, long limit, real *work) {
    const long size = 2 * components * a->n[0] * a->n[1] * a->n[2];
    double norm[2] = {given[0], given[1]};
    int active[2] = {norm[0] > goal[0], norm[1] > goal[1]};
    real step[4] = {0};
    struct product now = *a;
    now.step = step;
    __builtin_memset(a->x, 0, size * sizeof(real));
    __builtin_memset(a->u, 0, size * sizeof(real));
    long used = 0;
    for (; used < limit && (active[0] || active[1]); used++) {
        double total[20] = {0}, next[2];
        apply(components, laws, 1, &now, total, work);
        for (int part = 0; part < 2; part++) {
            const double curvature = total[6 * components + part];
            active[part] = active[part] && curvature > 0;
            step[part] = active[part] ? (real)(norm[part] / curvature) : 0;
        }
        (components == 1 ? precondition1 : precondition3)(r, a->force, inverse->layout, step, inverse->symbol, inverse->n,
                                                          inverse->factors, inverse->tables, next, work);
        for (int part = 0; part < 2; part++) {
            active[part] = active[part] && next[part] > goal[part];
            step[2 + part] = active[part] ? (real)(next[part] / norm[part]) : 0;
            norm[part] = next[part];
        }
    }
    add(a->x, a->u, step, size);
    return used;
}

/* product_...: force of macro + B u and what `apply` gathers; gradients_...: see above */
#define MATERIAL(name, components, laws)                                                                              \
    void product_##name(real *u, real *force, const long *layout, const real *material, const long *n, const real *h, \
                        const real *macro, double *total, real *work) {                                               \
        const struct product a = {u, force, layout, material, n, h, macro, NULL, NULL};                               \
        apply(components, laws, 0, &a, total, work);                                                                  \
    }                                                                                                                 \
    long gradients_##name(real *p, real *q, const long *layout, const real *material, const long *n, const real *h,   \
                          real *x, real *r, const real *symbol, const long *factors, const real *const *tables,       \
                          const double *norm, const double *goal, const long *limit, real *work) {                    \
        const real none[18] = {0};                                                                                    \
        const struct product a = {p, q, layout, material, n, h, none, x, NULL};                                       \
        const struct inverse inverse = {layout, symbol, n, factors, tables};                                          \
        return gradients(components, laws, &a, &inverse, r, norm, goal, *limit, work);                                \
    }

MATERIAL(conductor, 1, 1)
MATERIAL(elastic, 3, 2)
MATERIAL(anisotropic, 3, 21)

/* between the precisions: the largest magnitude of either part; r = factor rest; u += factor x */
void peaks(const double *rest, double *largest, long size) {
    double real_part = 0, imaginary_part = 0;
#pragma omp simd reduction(max : real_part, imaginary_part)
    for (long k = 0; k < size; k += 2) {
        const double a = __builtin_fabs(rest[k]), b = __builtin_fabs(rest[k + 1]);
        real_part = a > real_part ? a : real_part;
        imaginary_part = b > imaginary_part ? b : imaginary_part;
    }
    largest[0] = real_part;
    largest[1] = imaginary_part;
}

/* sums[4]: of the products of a's real and imaginary parts with b's, the latter's faster; threads of BLAS would spin */
void products(const double *restrict a, const double *restrict b, long size, double *sums) {
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

void narrow(const double *restrict rest, real *restrict r, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) r[k] = (real)(factor[k & 1] * rest[k]);
}

void widen(const real *restrict x, double *restrict u, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) u[k] += factor[k & 1] * (double)x[k];
}

/* Conjugate gradients with the diagonal as preconditioner for a symmetric matrix in compressed rows. work: 3 vectors.
 * Returns the iterations, or -1 if the residual, in the preconditioner's norm, was not reduced by `reduction`. */
long jacobi_gradients(const int *restrict start, const int *restrict column, const real *restrict value,
                      const real *restrict inverse, const real *restrict force, real *restrict x, real *restrict work,
                      long size, double reduction, long limit) {
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
