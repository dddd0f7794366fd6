/* A row of numbers goes through the kernels a vector at a time; compilers split vectors that the processor lacks.
 *
 * Complex numbers stand side by side in a vector, real part and imaginary part in turn. Included by kernels.c.
 */
#include <stddef.h>
#include <stdlib.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;
#define INLINE static inline __attribute__((always_inline))

typedef real vec __attribute__((vector_size(64)));
enum { WIDTH = 64 / sizeof(real), LANES = WIDTH / 2 };

/* the same numbers in double precision */
typedef double wide __attribute__((vector_size(8 * WIDTH)));

INLINE vec load(const real *at) {
    vec v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}

INLINE void store(real *at, vec v) { __builtin_memcpy(at, &v, sizeof v); }

/* the first vector's place in memory that has room for one more */
INLINE vec *aligned(real *memory) { return (vec *)(((size_t)memory + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec)); }

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

/* the vector whose lane l is lane from(l) of a and b together. from: a macro, so that compilers know the order */
#define float_LANES(from) from(0), from(1), from(2), from(3), from(4), from(5), from(6), from(7), from(8), from(9), \
    from(10), from(11), from(12), from(13), from(14), from(15)
#define double_LANES(from) from(0), from(1), from(2), from(3), from(4), from(5), from(6), from(7)
typedef int float_index;
typedef long long double_index;
#define JOINED(a, b) a##b
#define OF(type, what) JOINED(type, what)
#ifdef __clang__
#define SHUFFLED(a, b, from) __builtin_shufflevector(a, b, OF(REAL, _LANES)(from))
#else
typedef OF(REAL, _index) order __attribute__((vector_size(64)));
#define SHUFFLED(a, b, from) __builtin_shuffle(a, b, (order){OF(REAL, _LANES)(from)})
#endif

/* the lower or upper half of a vector of real numbers, each twice: for both parts of a complex number */
INLINE vec doubled(vec v, int upper) {
#define LOWER(l) (l) / 2
#define UPPER(l) LANES + (l) / 2
    return upper ? SHUFFLED(v, v, UPPER) : SHUFFLED(v, v, LOWER);
}

/* count real numbers, each twice; the rest is zero */
INLINE vec load_doubled(const real *at, long count) {
    vec v = {0};
    if (count >= LANES) __builtin_memcpy(&v, at, sizeof v / 2);
    else __builtin_memcpy(&v, at, count * sizeof(real));
    return doubled(v, 0);
}

/* the last complex number of one vector, then all but the last of another */
INLINE vec moved_up(vec before, vec v) {
#define ONE_DOWN(l) WIDTH - 2 + (l)
    return SHUFFLED(before, v, ONE_DOWN);
}

INLINE vec swapped(vec v) { /* real and imaginary parts exchanged */
#define OTHER(l) (l) ^ 1
    return SHUFFLED(v, v, OTHER);
}

/* i v */
INLINE vec turned(vec v) {
    vec sign;
    for (int lane = 0; lane < WIDTH; lane++) sign[lane] = lane & 1 ? 1 : -1;
    return swapped(v) * sign;
}

/* LANES x LANES complex numbers, in place */
INLINE void transpose(vec *v) {
#define LOW(d, l) ((l) & 2 * (d) ? WIDTH + (l) - 2 * (d) : (l))
#define HIGH(d, l) ((l) & 2 * (d) ? WIDTH + (l) : (l) + 2 * (d))
#define LOW1(l) LOW(1, l)
#define LOW2(l) LOW(2, l)
#define LOW4(l) LOW(LANES / 2, l)
#define HIGH1(l) HIGH(1, l)
#define HIGH2(l) HIGH(2, l)
#define HIGH4(l) HIGH(LANES / 2, l)
#pragma GCC unroll 3
    for (int d = 1; d < LANES; d *= 2)
#pragma GCC unroll 8
        for (int row = 0; row < LANES; row++)
            if (!(row & d)) {
                const vec a = v[row], b = v[row + d];
                v[row] = d == 1 ? SHUFFLED(a, b, LOW1) : d == 2 ? SHUFFLED(a, b, LOW2) : SHUFFLED(a, b, LOW4);
                v[row + d] = d == 1 ? SHUFFLED(a, b, HIGH1) : d == 2 ? SHUFFLED(a, b, HIGH2) : SHUFFLED(a, b, HIGH4);
            }
}

/* a += factor b */
INLINE void add_to(real *restrict a, const real *restrict b, real factor, long size) {
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) store(a + k, load(a + k) + factor * load(b + k));
    for (; k < size; k++) a[k] += factor * b[k];
}
