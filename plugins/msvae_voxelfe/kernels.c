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
 *
 * Over a voxel, with xi, eta, zeta in [-1, 1], a trilinear field is u = sum m_pqr xi^p eta^q zeta^r with the modes
 * m_pqr = 1/8 sum over corners of s_x^p s_y^q s_z^r u (s = -1 or +1). Its gradient has the orthogonal parts
 *     1, xi, eta, zeta, eta zeta, xi zeta, xi eta     with mean squares  1, 1/3, 1/3, 1/3, 1/9, 1/9, 1/9,
 * so the exactly integrated element needs the material law once per part, and no element matrix.
 */
#include <stddef.h>
#include <stdlib.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;
#define INLINE static inline __attribute__((always_inline))

/* a row of voxels goes through the element a vector at a time; compilers split vectors that the processor lacks */
typedef real vec __attribute__((vector_size(64)));
enum { WIDTH = 64 / sizeof(real) };

INLINE vec load(const real *at) {
    vec v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}

INLINE void store(real *at, vec v) { __builtin_memcpy(at, &v, sizeof v); }

/* a complex number as a vector: its two parts in turn */
INLINE vec repeated(const real *pair) {
    vec v;
    if (sizeof(real) == sizeof(float)) { /* as one number of twice the size: compilers broadcast that */
        typedef double both __attribute__((vector_size(64)));
        double one;
        both all;
        __builtin_memcpy(&one, pair, sizeof one);
        for (int lane = 0; lane < WIDTH / 2; lane++) all[lane] = one;
        return (vec)all;
    }
    for (int lane = 0; lane < WIDTH; lane++) v[lane] = pair[lane & 1];
    return v;
}

/* S = law(G) for a gradient G[component][axis]: q = k g (1 parameter), Hooke's isotropic law (lambda, mu) or his general
 * one (21: the upper triangle of the stiffness, row by row, in the order 11 22 33 23 13 12) */
INLINE void law(int laws, const vec *material, vec G[3][3], vec S[3][3]) {
    if (laws == 21) {
        static const int place[6][2] = {{0, 0}, {1, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}};
        vec stress[6] = {{0}};
        int entry = 0;
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
#pragma GCC unroll 6
            for (int j = i; j < 6; j++, entry++) {
                const int a = place[i][0], b = place[i][1], c = place[j][0], d = place[j][1];
                stress[i] += material[entry] * (c == d ? G[c][d] : G[c][d] + G[d][c]);
                if (i != j) stress[j] += material[entry] * (a == b ? G[a][b] : G[a][b] + G[b][a]);
            }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) S[place[i][0]][place[i][1]] = S[place[i][1]][place[i][0]] = stress[i];
        return;
    }
    if (laws == 1) {
        for (int x = 0; x < 3; x++) S[0][x] = material[0] * G[0][x];
        return;
    }
    const vec lambda = material[0], mu = material[1];
    const vec trace = lambda * (G[0][0] + G[1][1] + G[2][2]);
#pragma GCC unroll 3
    for (int c = 0; c < 3; c++)
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) S[c][x] = c == x ? mu * (G[c][x] + G[x][c]) + trace : mu * (G[c][x] + G[x][c]);
}

/* modes M[component][pqr] -> forces on the modes, in place; sum gathers the mean part of S, work the product of the two */
INLINE void element(int components, int laws, const vec *material, const real *scale, const vec *macro, vec M[3][8],
                    vec *sum, vec *work) {
    /* part: which axes' gradients it has, the mode each takes for that axis, and its mean square */
    static const int mode[7][3] = {{4, 2, 1}, {-1, 6, 5}, {6, -1, 3}, {5, 3, -1}, {7, -1, -1}, {-1, 7, -1}, {-1, -1, 7}};
    static const real weight[7] = {1, (real)1 / 3, (real)1 / 3, (real)1 / 3, (real)1 / 9, (real)1 / 9, (real)1 / 9};
    vec F[3][8] = {{{0}}};
#pragma GCC unroll 7
    for (int part = 0; part < 7; part++) {
        vec G[3][3] = {{{0}}}, S[3][3];
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) {
                if (mode[part][x] >= 0) G[c][x] = scale[x] * M[c][mode[part][x]];
                if (part == 0) G[c][x] += macro[3 * c + x];
            }
        law(laws, material, G, S);
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) {
                if (mode[part][x] >= 0) F[c][mode[part][x]] += (weight[part] * scale[x]) * S[c][x];
                if (part == 0) sum[3 * c + x] += S[c][x];
            }
    }
#pragma GCC unroll 3
    for (int c = 0; c < components; c++)
#pragma GCC unroll 8
        for (int m = 0; m < 8; m++) {
            *work += M[c][m] * F[c][m];
            M[c][m] = F[c][m];
        }
}

/* sums and differences over the four node rows around a row of voxels, (12, row); the first node is repeated at the end.
 * Here and below sizes and places count reals: a row of nz voxels has 2 nz of them */
INLINE void gather(int components, const real *u, const long *at, long size, long nz, long row, real *in) {
    for (int c = 0; c < components; c++) {
        const real *a = u + c * size + at[0], *b = u + c * size + at[1];
        const real *d = u + c * size + at[2], *e = u + c * size + at[3];
        real *o = in + 4 * c * row;
#pragma omp simd
        for (long k = 0; k < nz; k++) {
            const real p = a[k] + b[k], q = b[k] - a[k], r = d[k] + e[k], s = e[k] - d[k];
            o[k] = p + r;
            o[row + k] = q + s;
            o[2 * row + k] = r - p;
            o[3 * row + k] = s - q;
        }
        for (int m = 0; m < 4; m++)
            for (int part = 0; part < 2; part++) o[m * row + nz + part] = o[m * row + part];
    }
}

/* the transpose of gather: forces of the rows' lower and upper nodes, added to the four node rows */
INLINE void scatter(int components, real *force, const long *at, long apart, long nz, long row, real part, real *low,
                    const real *high) {
    for (int c = 0; c < components; c++) {
        real *restrict o = low + 4 * c * row;
        for (int m = 0; m < 4; m++) {
            real *restrict to = o + m * row;
            const real *restrict from = high + (4 * c + m) * row;
            for (int end = 0; end < 2; end++) to[end] += from[nz - 2 + end];
#pragma omp simd
            for (long k = 2; k < nz; k++) to[k] += from[k - 2];
        }
        static const real sign[4][2] = {{-1, -1}, {1, -1}, {-1, 1}, {1, 1}}; /* of a corner: along y, along x */
        for (int corner = 0; corner < 4; corner++) {
            real *restrict to = force + c * apart + at[corner];
            const real y = sign[corner][0] * part, x = sign[corner][1] * part, yx = sign[corner][0] * x;
#pragma omp simd
            for (long k = 0; k < nz; k++)
                to[k] += part * o[k] + y * o[row + k] + x * o[2 * row + k] + yx * o[3 * row + k];
        }
    }
}

/* x += alpha p; p = z + beta p; alpha and beta: of either part, as vectors */
INLINE void advance(real *restrict x, real *restrict p, const real *restrict z, vec alpha, vec beta, long size) {
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) {
        const vec old = load(p + k);
        store(x + k, load(x + k) + alpha * old);
        store(p + k, load(z + k) + beta * old);
    }
    for (; k < size; k++) {
        x[k] += alpha[k & 1] * p[k];
        p[k] = z[k] + beta[k & 1] * p[k];
    }
}

/* force = B^T law(macro + B u) over all voxels; total[6 components] gathers law(...) integrated over the voxels, then, for
 * macro = 0, u . force. u, force, macro and total are pairs; material is not. work: (36 + laws) rows of 2 nz + 2 WIDTH.
 * layout: how far components and planes of the force lie apart; those of u lie side by side.
 * With an x, step = alpha[2], beta[2] is taken first: x += alpha u; u = force + beta u */
INLINE void apply(int components, int laws, real *u, real *force, const long *layout, const real *material, const long *n,
                  const real *spacing, const real *macro, real *x, const real *step, double *total, real *work) {
    const long nx = n[0], ny = n[1], nz = n[2], plane = ny * nz, size = nx * plane, row = 2 * nz + 2 * WIDTH;
    const real scale[3] = {2 / spacing[0], 2 / spacing[1], 2 / spacing[2]};
    const real volume = spacing[0] * spacing[1] * spacing[2];
    real *in = work, *low = work + 12 * row, *high = work + 24 * row, *local = work + 36 * row;
    for (long k = 0; k < (36 + laws) * row; k++) work[k] = 0; /* lanes beyond the row: no material, no force */
    vec mean[9];
    for (int m = 0; m < 3 * components; m++) mean[m] = repeated(macro + 2 * m);
    for (long i = 0; i < nx; i++) {
        for (long next = i == 0 ? 0 : i + 1; next <= i + 1 && next < nx; next++)
            for (int c = 0; c < components; c++) { /* a plane is cleared just before it is first added to */
                const long at = 2 * (c * size + next * plane);
                real *here = force + c * layout[0] + next * layout[1];
                if (x) advance(x + at, u + at, here, repeated(step), repeated(step + 2), 2 * plane);
                __builtin_memset(here, 0, 2 * plane * sizeof(real));
            }
        for (long j = 0; j < ny; j++) {
            const long i1 = i + 1 == nx ? 0 : i + 1, j1 = j + 1 == ny ? 0 : j + 1, here = i * plane + j * nz;
            const long at[4] = {2 * here, 2 * (i * plane + j1 * nz), 2 * (i1 * plane + j * nz), 2 * (i1 * plane + j1 * nz)};
            gather(components, u, at, 2 * size, 2 * nz, row, in);
            for (int l = 0; l < laws; l++) {
                const real *restrict from = material + l * size + here;
                real *restrict to = local + l * row;
#pragma omp simd
                for (long k = 0; k < 2 * nz; k++) to[k] = from[k >> 1];
            }
            vec sum[9] = {{0}}, energy = {0};
            for (long k = 0; k < 2 * nz; k += WIDTH) {
                vec M[3][8], p[21];
                for (int l = 0; l < laws; l++) p[l] = load(local + l * row + k);
#pragma GCC unroll 3
                for (int c = 0; c < components; c++)
#pragma GCC unroll 4
                    for (int m = 0; m < 4; m++) { /* m = 2 p + q of the mode; along z r = 0 is the sum, 1 the difference */
                        const vec a = load(in + (4 * c + m) * row + k), b = load(in + (4 * c + m) * row + k + 2);
                        M[c][2 * m] = (a + b) * (real)0.125;
                        M[c][2 * m + 1] = (b - a) * (real)0.125;
                    }
                element(components, laws, p, scale, mean, M, sum, &energy);
#pragma GCC unroll 3
                for (int c = 0; c < components; c++)
#pragma GCC unroll 4
                    for (int m = 0; m < 4; m++) {
                        store(low + (4 * c + m) * row + k, M[c][2 * m] - M[c][2 * m + 1]);
                        store(high + (4 * c + m) * row + k, M[c][2 * m] + M[c][2 * m + 1]);
                    }
            }
            for (int s = 0; s <= 3 * components; s++)
                for (int lane = 0; lane < WIDTH; lane++)
                    total[2 * s + (lane & 1)] += (double)(s < 3 * components ? sum[s] : energy)[lane] * volume;
            const long lower = i * layout[1], upper = i1 * layout[1];
            const long to[4] = {lower + 2 * j * nz, lower + 2 * j1 * nz, upper + 2 * j * nz, upper + 2 * j1 * nz};
            scatter(components, force, to, layout[0], 2 * nz, row, volume * (real)0.125, low, high);
        }
    }
}

void conduct(real *u, real *force, const long *layout, const real *material, const long *n, const real *h,
             const real *macro, real *x, const real *step, double *total, real *work) {
    apply(1, 1, u, force, layout, material, n, h, macro, x, step, total, work);
}

void elastic(real *u, real *force, const long *layout, const real *material, const long *n, const real *h,
             const real *macro, real *x, const real *step, double *total, real *work) {
    apply(3, 2, u, force, layout, material, n, h, macro, x, step, total, work);
}

void anisotropic(real *u, real *force, const long *layout, const real *material, const long *n, const real *h,
                 const real *macro, real *x, const real *step, double *total, real *work) {
    apply(3, 21, u, force, layout, material, n, h, macro, x, step, total, work);
}

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

/* x += alpha p; alpha[2]: of either part */
void add(real *restrict x, const real *restrict p, const real *alpha, long size) {
    const vec a = repeated(alpha);
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) store(x + k, load(x + k) + a * load(p + k));
    for (; k < size; k++) x[k] += alpha[k & 1] * p[k];
}

#include "fourier.h"

/* count complex numbers as a vector, the others zero; and back */
INLINE vec load_some(const real *at, long count) {
    if (count >= LANES) return load(at);
    vec v = {0};
    __builtin_memcpy(&v, at, 2 * count * sizeof(real));
    return v;
}

INLINE void store_some(real *at, vec v, long count) {
    if (count >= LANES) store(at, v);
    else __builtin_memcpy(at, &v, 2 * count * sizeof(real));
}

/* A grid's transform: factors (64 a axis) and tables of each axis, forwards and backwards; see preconditioner.py */
struct transform {
    long nx, ny, nz, groups, slabs; /* groups of LANES along z; slabs of LANES frequencies along y */
    const long *factors;
    const real *const *tables;
};

INLINE vec *along(int axis, int inverse, const struct transform *t, vec *from, vec *to, vec *spare) {
    const long n = axis == 0 ? t->nx : axis == 1 ? t->ny : t->nz;
    return fourier(inverse, n, t->factors + 64 * axis, t->tables[axis + 3 * inverse], from, to, spare);
}

/* a plane (ny, nz) to its spectrum, whose vectors hold LANES frequencies along y: (slab, frequency along z) */
INLINE void plane_forward(const struct transform *t, const real *field, vec *spectrum, vec *rows, vec *from, vec *to,
                          vec *spare) {
    for (long g = 0; g < t->groups; g++) {
        for (long j = 0; j < t->ny; j++) from[j] = load_some(field + 2 * (j * t->nz + g * LANES), t->nz - g * LANES);
        const vec *found = along(1, 0, t, from, to, spare);
        for (long j = 0; j < t->ny; j++) rows[j * t->groups + g] = found[j];
    }
    for (long b = 0; b < t->slabs; b++) {
        for (long g = 0; g < t->groups; g++) {
            vec tile[LANES];
            for (int l = 0; l < LANES; l++) tile[l] = rows[(b * LANES + l) * t->groups + g];
            transpose(tile);
            for (int l = 0; l < LANES; l++) from[g * LANES + l] = tile[l];
        }
        const vec *found = along(2, 0, t, from, to, spare);
        for (long k = 0; k < t->nz; k++) spectrum[b * t->nz + k] = found[k];
    }
}

/* and back, to the place of the spectrum; returns the product of the field with another. next: the spectrum after it */
INLINE vec plane_backward(const struct transform *t, vec *spectrum, const vec *next, const real *other, vec *rows,
                          vec *from, vec *to, vec *spare) {
    vec sum = {0};
    for (long b = 0; b < t->slabs; b++) {
        for (long k = 0; k < t->nz; k++) {
            from[k] = spectrum[b * t->nz + k];
            __builtin_prefetch(next + b * t->nz + k, 1);
            __builtin_prefetch(other + (b * t->nz + k) * WIDTH);
        }
        const vec *found = along(2, 1, t, from, to, spare);
        for (long g = 0; g < t->groups; g++) {
            vec tile[LANES];
            for (int l = 0; l < LANES; l++) tile[l] = found[g * LANES + l];
            transpose(tile);
            for (int l = 0; l < LANES; l++) rows[(b * LANES + l) * t->groups + g] = tile[l];
        }
    }
    for (long g = 0; g < t->groups; g++) {
        for (long j = 0; j < t->ny; j++) from[j] = rows[j * t->groups + g];
        const vec *found = along(1, 1, t, from, to, spare);
        for (long j = 0; j < t->ny; j++) rows[j * t->groups + g] = found[j];
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

/* the lower or upper half of a vector of real numbers, each twice: for both parts of a complex number */
INLINE vec doubled(vec v, int upper) {
    int from[WIDTH];
#pragma GCC unroll 16
    for (int lane = 0; lane < WIDTH; lane++) from[lane] = lane / 2 + upper * LANES;
    return shuffled(v, v, from);
}

/* columns along x of all components at one vector of the spectrum: forwards, times the symbol, backwards */
INLINE void columns(int components, const struct transform *t, vec *spectrum, const long *layout, const real *symbol,
                    int odd_z, vec *work) {
    const long apart = layout[0] / WIDTH, step = layout[1] / WIDTH, entries = components == 1 ? 1 : 6;
    const long nx = t->nx, half = nx / 2 + 1;
    vec *found[3], *spare = work + 6 * nx;
    for (int c = 0; c < components; c++) {
        vec *from = work + 2 * c * nx, *to = from + nx;
        for (long i = 0; i < nx; i++) {
            from[i] = spectrum[c * apart + i * step];
            __builtin_prefetch(&spectrum[c * apart + i * step + 1], 1); /* for the next call */
        }
        found[c] = along(0, 0, t, from, to, spare);
    }
    for (long i = 0; i < nx; i++) {
        const int odd_x = i >= half;
        const real *at = symbol + (odd_x ? nx - i : i) * entries * LANES;
        if (components == 1) {
            found[0][i] *= doubled(load(at), 0);
            continue;
        }
        const real yz = odd_z ? -1 : 1, xy = odd_x ? -1 : 1;
        vec s[6];
#pragma GCC unroll 6
        for (int e = 0; e < 6; e++) s[e] = doubled(load(at + e / 2 * WIDTH), e % 2);
        s[3] *= yz;
        s[4] *= yz * xy;
        s[5] *= xy;
        const vec x = found[0][i], y = found[1][i], z = found[2][i];
        found[0][i] = s[0] * x + s[5] * y + s[4] * z;
        found[1][i] = s[5] * x + s[1] * y + s[3] * z;
        found[2][i] = s[4] * x + s[3] * y + s[2] * z;
    }
    for (int c = 0; c < components; c++) {
        vec *from = found[c], *to = work + 2 * c * nx + (from == work + 2 * c * nx ? nx : 0);
        const vec *back = along(0, 1, t, from, to, spare);
        for (long i = 0; i < nx; i++) spectrum[c * apart + i * step] = back[i];
    }
}

/* r -= alpha q; then q = the homogeneous problem's solution for r; sums[2] = r . q, for either part.
 *
 * symbol (slabs, nz/2 + 1, nx/2 + 1, 1 or 6, LANES): its inverse over the grid's size, at the frequencies up to half
 * of x and z and all of y, and a vector more. It is even but for the entries ij (order 11 22 33 23 13 12), which are odd
 * in i and in j.
 * q: aligned to vectors, components and planes layout[2] apart, each with room for its spectrum, which takes its place.
 * work: see preconditioner.py */
INLINE void homogeneous(int components, real *r, real *q, const long *layout, const real *alpha, const real *symbol,
                        const long *n, const long *factors, const real *const *tables, double *sums, real *work) {
    const long groups = (n[2] + LANES - 1) / LANES, slabs = (n[1] + LANES - 1) / LANES;
    const struct transform t = {n[0], n[1], n[2], groups, slabs, factors, tables};
    const long plane = 2 * n[1] * n[2], longest = n[1] > groups * LANES ? n[1] : groups * LANES;
    const long entries = components == 1 ? 1 : 6, half = (n[0] / 2 + 1) * entries * LANES;
    vec *rows = (vec *)(((size_t)work + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec));
    vec *from = rows + slabs * LANES * groups, *to = from + longest, *spare = to + longest;
    const vec minus = -repeated(alpha);
    for (long k = 0; k < slabs * LANES * groups; k++) rows[k] = (vec){0};
    for (long i = 0; i < n[0]; i++)
        for (int c = 0; c < components; c++) {
            real *here = r + (c * n[0] + i) * plane, *there = q + c * layout[0] + i * layout[1];
            for (long k = 0; k < plane; k += WIDTH) {
                const long count = (plane - k) / 2;
                store_some(here + k, load_some(here + k, count) + minus * load_some(there + k, count), count);
            }
            plane_forward(&t, here, (vec *)there, rows, from, to, spare);
        }
    for (long b = 0; b < slabs; b++)
        for (long k = 0; k < n[2]; k++) {
            const int odd_z = k > n[2] / 2;
            const real *at = symbol + (b * (n[2] / 2 + 1) + (odd_z ? n[2] - k : k)) * half;
            columns(components, &t, (vec *)q + b * n[2] + k, layout, at, odd_z, from);
        }
    sums[0] = sums[1] = 0;
    for (long i = 0; i < n[0]; i++)
        for (int c = 0; c < components; c++) {
            vec *there = (vec *)(q + c * layout[0] + i * layout[1]);
            const vec *next = there + layout[0] / WIDTH;
            const vec part = plane_backward(&t, there, next, r + (c * n[0] + i) * plane, rows, from, to, spare);
            for (int lane = 0; lane < WIDTH; lane++) sums[lane & 1] += (double)part[lane];
        }
}

void precondition1(real *r, real *q, const long *layout, const real *alpha, const real *symbol, const long *n,
                   const long *factors, const real *const *tables, double *sums, real *work) {
    homogeneous(1, r, q, layout, alpha, symbol, n, factors, tables, sums, work);
}

void precondition3(real *r, real *q, const long *layout, const real *alpha, const real *symbol, const long *n,
                   const long *factors, const real *const *tables, double *sums, real *work) {
    homogeneous(3, r, q, layout, alpha, symbol, n, factors, tables, sums, work);
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
