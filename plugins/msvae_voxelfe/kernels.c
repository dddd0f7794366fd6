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
#include "fourier.h"
#include "preconditioner.h"
#include "elements.h"

/* q = the homogeneous problem's solution for r; sums[2] = r . q, of either part */
#define PRECONDITION(components)                                                                                      \
    void precondition##components(real *r, real *q, const long *layout, const real *symbol, const long *n,            \
                                  const long *factors, const real *const *tables, double *sums, real *work) {         \
        const struct inverse inverse = {layout, symbol, n, factors, tables};                                          \
        forwards##components(&inverse, r, q, 0, work);                                                                \
        sums[0] = sums[1] = 0;                                                                                        \
        for (long i = 0; i < n[0]; i++) backwards##components(&inverse, q, i, r, sums, work);                         \
    }

PRECONDITION(1)
PRECONDITION(3)

/* x += alpha p */
INLINE void add(real *restrict x, const real *restrict p, real alpha, long size) {
    for (long k = 0; k < size; k++) x[k] += alpha * p[k];
}

/* Conjugate gradients for K x = r from x = 0 until the residual's norm is at its goal, and no more than limit steps;
 * returns these. q is r, preconditioned, and norm their product. p: room for the direction. work: of both, after another.
 *
 * Both load cases are one system, with the same alpha and beta: their operator is the same, and so is the number of steps
 * that they need. Then the norm is known from the spectrum, and the way back into space is part of the next product. */
INLINE long gradients(int components, int laws, struct product a, const struct inverse *inverse, real *x, real *r,
                      double norm, double goal, long limit, real *work, real *rows) {
    const long size = 2 * components * a.n[0] * a.n[1] * a.n[2];
    struct step step = {x, 0, 0, NULL, work};
    a.step = &step;
    __builtin_memset(x, 0, size * sizeof(real));
    __builtin_memset(a.u, 0, size * sizeof(real));
    long used = 0;
    while (used < limit && norm > goal) {
        double total[20] = {0};
        apply(components, laws, 1, &a, total, rows);
        const double curvature = total[6 * components] + total[6 * components + 1], before = norm;
        if (!(curvature > 0)) break;
        step.alpha = (real)(norm / curvature);
        norm = (components == 1 ? forwards1 : forwards3)(inverse, r, a.force, step.alpha, work);
        step.beta = (real)(norm / before);
        step.inverse = inverse;
        used++;
    }
    if (used) add(x, a.u, step.alpha, size);
    return used;
}

/* product_...: force of macro + B u and what `apply` gathers; gradients_...: see above */
#define MATERIAL(name, components, laws)                                                                              \
    void product_##name(real *u, real *force, const long *layout, const real *material, const long *n, const real *h, \
                        const real *macro, double *total, real *work) {                                               \
        const struct product a = {u, force, layout, material, n, h, macro, NULL};                                     \
        apply(components, laws, 0, &a, total, work);                                                                  \
    }                                                                                                                 \
    long gradients_##name(real *p, real *q, const long *layout, const real *material, const long *n, const real *h,   \
                          real *x, real *r, const real *symbol, const long *factors, const real *const *tables,       \
                          const double *norms, const long *limit, real *work, real *rows) {                           \
        const struct product a = {p, q, layout, material, n, h, NULL, NULL};                                          \
        const struct inverse inverse = {layout, symbol, n, factors, tables};                                          \
        return gradients(components, laws, a, &inverse, x, r, norms[0], norms[1], *limit, work, rows);                \
    }

MATERIAL(conductor, 1, 1)
MATERIAL(elastic, 3, 2)
MATERIAL(anisotropic, 3, 21)

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

/* between the precisions: r = factor rest; u += factor x; and within one: r *= factor. factor[2]: of either part */
void narrow(const double *restrict rest, real *restrict r, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) r[k] = (real)(factor[k & 1] * rest[k]);
}

void widen(const real *restrict x, double *restrict u, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) u[k] += factor[k & 1] * (double)x[k];
}

void scale(real *r, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) r[k] *= (real)factor[k & 1];
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
