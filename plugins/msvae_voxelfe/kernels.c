/* Matrix-free fully integrated trilinear (Q1) elements on a periodic voxel grid, and the vector work of conjugate
 * gradients. Compiled once for float and once for double (-DREAL=...); see compiled.py. 2D is a grid with nx = 1.
 *
 * Two load cases travel together as the real and the imaginary part of complex fields (neither notices the other): the
 * preconditioner's symbol is real, so that one complex Fourier transform serves both, and costs less than two real ones.
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
INLINE void element(int components, int laws, const vec *material, const real *scale, const vec *macro, vec M[3][8], vec *sum,
                    vec *work) {
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
INLINE void scatter(int components, real *force, const long *at, long size, long nz, long row, real part, real *low,
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
            real *restrict to = force + c * size + at[corner];
            const real y = sign[corner][0] * part, x = sign[corner][1] * part, yx = sign[corner][0] * x;
#pragma omp simd
            for (long k = 0; k < nz; k++)
                to[k] += part * o[k] + y * o[row + k] + x * o[2 * row + k] + yx * o[3 * row + k];
        }
    }
}

/* force = B^T law(macro + B u) over all voxels; total[6 components] gathers law(...) integrated over the voxels, then, for
 * macro = 0, u . force. u, force, macro and total are pairs; material is not. work: (36 + laws) rows of 2 nz + 2 WIDTH */
INLINE void apply(int components, int laws, const real *u, real *force, const real *material, const long *n,
                  const real *spacing, const real *macro, double *total, real *work) {
    const long nx = n[0], ny = n[1], nz = n[2], plane = ny * nz, size = nx * plane, row = 2 * nz + 2 * WIDTH;
    const real scale[3] = {2 / spacing[0], 2 / spacing[1], 2 / spacing[2]};
    const real volume = spacing[0] * spacing[1] * spacing[2];
    real *in = work, *low = work + 12 * row, *high = work + 24 * row, *local = work + 36 * row;
    for (long k = 0; k < (36 + laws) * row; k++) work[k] = 0; /* lanes beyond the row: no material, no force */
    vec mean[9];
    for (int m = 0; m < 3 * components; m++) mean[m] = repeated(macro + 2 * m);
    for (long i = 0; i < nx; i++) {
        for (int c = 0; c < components; c++) { /* a plane is cleared just before it is first added to */
            real *planes = force + 2 * (c * size + i * plane);
            if (i == 0) __builtin_memset(planes, 0, 2 * plane * sizeof(real));
            if (i + 1 < nx) __builtin_memset(planes + 2 * plane, 0, 2 * plane * sizeof(real));
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
                    for (int m = 0; m < 4; m++) { /* m = 2 p + q of the mode; along z: r = 0 is the sum, r = 1 the difference */
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
            scatter(components, force, at, 2 * size, 2 * nz, row, volume * (real)0.125, low, high);
        }
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

/* sums[2] = sum of a b, for either part of the pairs; size counts reals */
void dot(const real *restrict a, const real *restrict b, long size, double *sums) {
    sums[0] = sums[1] = 0;
    for (long start = 0; start < size; start += 4096) {
        const long end = start + 4096 < size ? start + 4096 : size;
        vec part = {0};
        long k = start;
        for (; k + WIDTH <= end; k += WIDTH) part += load(a + k) * load(b + k);
        for (; k < end; k++) sums[k & 1] += (double)(a[k] * b[k]);
        for (int lane = 0; lane < WIDTH; lane++) sums[lane & 1] += (double)part[lane];
    }
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

void narrow(const double *restrict rest, real *restrict r, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) r[k] = (real)(factor[k & 1] * rest[k]);
}

void widen(const real *restrict x, double *restrict u, const double *factor, long size) {
#pragma omp simd
    for (long k = 0; k < size; k++) u[k] += factor[k & 1] * (double)x[k];
}

/* r -= alpha q; alpha[2]: of either part */
void reduce(real *restrict r, const real *restrict q, const real *alpha, long size) {
    const vec a = repeated(alpha);
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) store(r + k, load(r + k) - a * load(q + k));
    for (; k < size; k++) r[k] -= alpha[k & 1] * q[k];
}

/* x += alpha p; p = z + beta p; alpha[2], beta[2]: of either part */
void advance(real *restrict x, real *restrict p, const real *restrict z, const real *alpha, const real *beta, long size) {
    const vec a = repeated(alpha), b = repeated(beta);
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) {
        const vec old = load(p + k);
        store(x + k, load(x + k) + a * old);
        store(p + k, load(z + k) + b * old);
    }
    for (; k < size; k++) {
        x[k] += alpha[k & 1] * p[k];
        p[k] = z[k] + beta[k & 1] * p[k];
    }
}

/* The symbol (1 or 6, *octant) is known at frequencies up to half of each axis: it is even in each of them but for the
 * entries ij (order 11 22 33 23 13 12), which are odd in i and in j. A row of it, for all frequencies along z: */
INLINE void unfold(int entries, const real *symbol, const long *n, long i, long j, real *restrict rows) {
    const long half[3] = {n[0] / 2 + 1, n[1] / 2 + 1, n[2] / 2 + 1}, octant = half[0] * half[1] * half[2];
    const int x = i >= half[0], y = j >= half[1];
    const real *at = symbol + ((x ? n[0] - i : i) * half[1] + (y ? n[1] - j : j)) * half[2];
    for (int e = 0; e < entries; e++) {
        const int odd_x = e == 4 || e == 5, odd_y = e == 3 || e == 5, odd_z = e == 3 || e == 4;
        const real sign = (odd_x && x) != (odd_y && y) ? -1 : 1, behind = odd_z ? -sign : sign;
        const real *restrict from = at + e * octant;
        real *restrict to = rows + e * n[2];
#pragma omp simd
        for (long k = 0; k < half[2]; k++) to[k] = sign * from[k];
#pragma omp simd
        for (long k = half[2]; k < n[2]; k++) to[k] = behind * from[n[2] - k];
    }
}

/* spectrum (3, *grid) of complex numbers *= symbol, symmetric 3 x 3; work: 6 nz */
void multiply3(real *restrict spectrum, const real *symbol, const long *n, real *restrict work) {
    const long nz = n[2], size = 2 * n[0] * n[1] * nz;
    for (long i = 0; i < n[0]; i++)
        for (long j = 0; j < n[1]; j++) {
            unfold(6, symbol, n, i, j, work);
            real *restrict a = spectrum + 2 * (i * n[1] + j) * nz, *restrict b = a + size, *restrict c = b + size;
            const real *restrict s = work;
#pragma omp simd
            for (long k = 0; k < nz; k++) {
                const real xx = s[k], yy = s[nz + k], zz = s[2 * nz + k];
                const real yz = s[3 * nz + k], xz = s[4 * nz + k], xy = s[5 * nz + k];
                const real x = a[2 * k], y = b[2 * k], z = c[2 * k], u = a[2 * k + 1], v = b[2 * k + 1], w = c[2 * k + 1];
                a[2 * k] = xx * x + xy * y + xz * z;
                a[2 * k + 1] = xx * u + xy * v + xz * w;
                b[2 * k] = xy * x + yy * y + yz * z;
                b[2 * k + 1] = xy * u + yy * v + yz * w;
                c[2 * k] = xz * x + yz * y + zz * z;
                c[2 * k + 1] = xz * u + yz * v + zz * w;
            }
        }
}

void multiply1(real *restrict spectrum, const real *symbol, const long *n, real *restrict work) {
    const long nz = n[2];
    for (long i = 0; i < n[0]; i++)
        for (long j = 0; j < n[1]; j++) {
            unfold(1, symbol, n, i, j, work);
            real *restrict a = spectrum + 2 * (i * n[1] + j) * nz;
#pragma omp simd
            for (long k = 0; k < 2 * nz; k++) a[k] *= work[k >> 1];
        }
}

/* Fourier transform along one axis of field[outer][n][inner], in place; for lengths whose factors FFTs do badly with.
 *
 * The even part x_j + x_(n-j) only meets cosines, the odd part only sines: half the size twice, and real, which makes
 * a quarter of the work of the whole complex matrix. cosine[j][k] and sine[j][k]: n/2 + 1 rows of a whole number of
 * blocks; they carry the sign and the scale of the transform. work: (2 n + 4) vectors.
 */
enum { BLOCK = 4 };

INLINE vec turned(vec v) { /* i v */
    vec t;
    for (int lane = 0; lane < WIDTH; lane += 2) t[lane] = -v[lane + 1], t[lane + 1] = v[lane];
    return t;
}

INLINE void column(vec *even, vec *odd, long n, const real *cosine, const real *sine, vec *out) {
    const long half = n / 2 + 1, row = (half + BLOCK - 1) / BLOCK * BLOCK;
    for (long j = 1; 2 * j < n; j++) {
        const vec a = out[j], b = out[n - j];
        even[j] = a + b;
        odd[j] = turned(a - b);
    }
    even[0] = out[0];
    if (n % 2 == 0) even[half - 1] = out[half - 1];
    for (long first = 0; first < half; first += BLOCK) {
        vec c[BLOCK] = {{0}}, s[BLOCK] = {{0}};
        for (long j = 0; j < half; j++)
            for (int k = 0; k < BLOCK; k++) c[k] += cosine[j * row + first + k] * even[j];
        for (long j = 1; 2 * j < n; j++)
            for (int k = 0; k < BLOCK; k++) s[k] += sine[j * row + first + k] * odd[j];
        for (int k = 0; k < BLOCK && first + k < half; k++) {
            out[first + k] = c[k] + s[k];
            if (first + k) out[n - first - k] = c[k] - s[k];
        }
    }
}

void fourier(real *field, long outer, long n, long inner, const real *cosine, const real *sine, real *work) {
    vec *even = (vec *)(((size_t)work + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec)), *odd = even + n / 2 + 1, *out = odd + n / 2 + 1;
    const long pack = WIDTH / 2, columns = inner == 1 ? outer : inner;
    const long near = inner == 1 ? 2 * n : 2, step = 2 * inner; /* from column to column, and along a column, in reals */
    for (long part = 0; part < (inner == 1 ? 1 : outer); part++)
        for (long first = 0; first < columns; first += pack) {
            real *at = field + part * n * step + first * near, *copy = (real *)out;
            const long count = columns - first < pack ? columns - first : pack;
            if (near == 2 && count == pack) {
                for (long j = 0; j < n; j++) out[j] = load(at + j * step);
                column(even, odd, n, cosine, sine, out);
                for (long j = 0; j < n; j++) store(at + j * step, out[j]);
                continue;
            }
            for (long j = 0; j < n; j++) out[j] = (vec){0};
            for (long c = 0; c < count; c++)
                for (long j = 0; j < n; j++)
                    for (int x = 0; x < 2; x++) copy[j * WIDTH + 2 * c + x] = at[c * near + j * step + x];
            column(even, odd, n, cosine, sine, out);
            for (long c = 0; c < count; c++)
                for (long j = 0; j < n; j++)
                    for (int x = 0; x < 2; x++) at[c * near + j * step + x] = copy[j * WIDTH + 2 * c + x];
        }
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
