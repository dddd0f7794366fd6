/* Matrix-free fully integrated trilinear (Q1) elements on a periodic voxel grid, and the vector work of conjugate
 * gradients. Compiled once for float and once for double (-DREAL=...); see compiled.py. 2D is a grid with nx = 1.
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

/* modes M[component][pqr] -> forces on the modes, in place; sum gathers the mean part of S */
INLINE void element(int components, int laws, const vec *material, const real *scale, const real *macro, vec M[3][8], vec *sum) {
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
        for (int m = 0; m < 8; m++) M[c][m] = F[c][m];
}

/* sums and differences over the four node rows around a row of voxels, (12, row); the first node is repeated at the end */
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
        for (int m = 0; m < 4; m++) o[m * row + nz] = o[m * row];
    }
}

/* the transpose of gather: forces of the rows' lower and upper nodes, added to the four node rows */
INLINE void scatter(int components, real *force, const long *at, long size, long nz, long row, real part, real *low,
                    const real *high) {
    for (int c = 0; c < components; c++) {
        real *restrict o = low + 4 * c * row;
        for (int m = 0; m < 4; m++) {
            real *restrict to = o + m * row;
            const real *restrict from = high + (4 * c + m) * row;
            to[0] += from[nz - 1];
#pragma omp simd
            for (long k = 1; k < nz; k++) to[k] += from[k - 1];
        }
        static const real sign[4][2] = {{-1, -1}, {1, -1}, {-1, 1}, {1, 1}}; /* of a corner: along y, along x */
        for (int corner = 0; corner < 4; corner++) {
            real *restrict to = force + c * size + at[corner];
            const real y = sign[corner][0] * part, x = sign[corner][1] * part, yx = sign[corner][0] * x;
#pragma omp simd
            for (long k = 0; k < nz; k++)
                to[k] += part * o[k] + y * o[row + k] + x * o[2 * row + k] + yx * o[3 * row + k];
        }
    }
}

/* force += B^T law(macro + B u) over all voxels; total[3 components] gathers law(...) integrated over the voxels.
 * work: (36 + laws) rows of nz + 2 WIDTH */
INLINE void apply(int components, int laws, const real *u, real *force, const real *material, const long *n,
                  const real *spacing, const real *macro, double *total, real *work) {
    const long nx = n[0], ny = n[1], nz = n[2], plane = ny * nz, size = nx * plane, row = nz + 2 * WIDTH;
    const real scale[3] = {2 / spacing[0], 2 / spacing[1], 2 / spacing[2]};
    const real volume = spacing[0] * spacing[1] * spacing[2];
    real *in = work, *low = work + 12 * row, *high = work + 24 * row, *local = work + 36 * row;
    for (long k = 0; k < (36 + laws) * row; k++) work[k] = 0; /* lanes beyond the row: no material, no force */
    for (long i = 0; i < nx; i++)
        for (long j = 0; j < ny; j++) {
            const long i1 = i + 1 == nx ? 0 : i + 1, j1 = j + 1 == ny ? 0 : j + 1;
            const long at[4] = {i * plane + j * nz, i * plane + j1 * nz, i1 * plane + j * nz, i1 * plane + j1 * nz};
            gather(components, u, at, size, nz, row, in);
            for (int l = 0; l < laws; l++) __builtin_memcpy(local + l * row, material + l * size + at[0], nz * sizeof(real));
            vec sum[9] = {{0}};
            for (long k = 0; k < nz; k += WIDTH) {
                vec M[3][8], p[21];
                for (int l = 0; l < laws; l++) p[l] = load(local + l * row + k);
#pragma GCC unroll 3
                for (int c = 0; c < components; c++)
#pragma GCC unroll 4
                    for (int m = 0; m < 4; m++) { /* m = 2 p + q of the mode; along z: r = 0 is the sum, r = 1 the difference */
                        const vec a = load(in + (4 * c + m) * row + k), b = load(in + (4 * c + m) * row + k + 1);
                        M[c][2 * m] = (a + b) * (real)0.125;
                        M[c][2 * m + 1] = (b - a) * (real)0.125;
                    }
                element(components, laws, p, scale, macro, M, sum);
#pragma GCC unroll 3
                for (int c = 0; c < components; c++)
#pragma GCC unroll 4
                    for (int m = 0; m < 4; m++) {
                        store(low + (4 * c + m) * row + k, M[c][2 * m] - M[c][2 * m + 1]);
                        store(high + (4 * c + m) * row + k, M[c][2 * m] + M[c][2 * m + 1]);
                    }
            }
            for (int s = 0; s < 3 * components; s++)
                for (int lane = 0; lane < WIDTH; lane++) total[s] += (double)sum[s][lane] * volume;
            scatter(components, force, at, size, nz, row, volume * (real)0.125, low, high);
        }
}

void conduct(const real *u, real *force, const real *material, const long *n, const real *h, const real *macro,
             double *total, real *work) {
    apply(1, 1, u, force, material, n, h, macro, total, work);
}

void elastic(const real *u, real *force, const real *material, const long *n, const real *h, const real *macro,
             double *total, real *work) {
    apply(3, 2, u, force, material, n, h, macro, total, work);
}

void anisotropic(const real *u, real *force, const real *material, const long *n, const real *h, const real *macro,
                 double *total, real *work) {
    apply(3, 21, u, force, material, n, h, macro, total, work);
}

double dot(const real *restrict a, const real *restrict b, long size) {
    double sum = 0;
    for (long start = 0; start < size; start += 4096) {
        const long end = start + 4096 < size ? start + 4096 : size;
        real part = 0;
#pragma omp simd reduction(+ : part)
        for (long k = start; k < end; k++) part += a[k] * b[k];
        sum += part;
    }
    return sum;
}

/* x += alpha p; r -= alpha q; q is cleared for the next product */
void advance(real *restrict x, real *restrict r, const real *restrict p, real *restrict q, real alpha, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) {
        x[k] += alpha * p[k];
        r[k] -= alpha * q[k];
        q[k] = 0;
    }
}

/* p = z + beta p */
void redirect(real *restrict p, const real *restrict z, real beta, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) p[k] = z[k] + beta * p[k];
}

/* spectrum (3, frequencies) of complex numbers *= symbol (6, frequencies): symmetric 3 x 3 in the order 11 22 33 23 13 12 */
void multiply3(real *restrict spectrum, const real *restrict symbol, long size) {
    real *restrict a = spectrum, *restrict b = spectrum + 2 * size, *restrict c = spectrum + 4 * size;
#pragma omp simd
    for (long k = 0; k < 2 * size; k++) {
        const long s = k >> 1;
        const real x = a[k], y = b[k], z = c[k];
        const real s11 = symbol[s], s22 = symbol[size + s], s33 = symbol[2 * size + s];
        const real s23 = symbol[3 * size + s], s13 = symbol[4 * size + s], s12 = symbol[5 * size + s];
        a[k] = s11 * x + s12 * y + s13 * z;
        b[k] = s12 * x + s22 * y + s23 * z;
        c[k] = s13 * x + s23 * y + s33 * z;
    }
}

void multiply1(real *restrict spectrum, const real *restrict symbol, long size) {
#pragma omp simd
    for (long k = 0; k < 2 * size; k++) spectrum[k] *= symbol[k >> 1];
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
