/* Group normalisation of images whose channels are last in memory, forwards and backwards: two passes over an image each
 * way, whatever the number of channels in a group. Compiled once for single precision and once for bfloat16 (-DHALF=1),
 * which is read and written as such, and summed in single and double precision; see layers.py.
 */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#if HALF
typedef uint16_t entry;

static inline float number(entry a) {
    const uint32_t bits = (uint32_t)a << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline entry rounded(float value) { /* to nearest, ties to even; a number that is none stays so */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t none = (bits & 0x7fffffff) > 0x7f800000;
    return (entry)(none ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#else
typedef float entry;
static inline float number(entry a) { return a; }
static inline entry rounded(float value) { return value; }
#endif

enum { ROW = 64, ROWS = 512 }; /* numbers of several voxels that are summed side by side; rows until sums are put away */

/* The images (n, voxels, channels), what is made of them, and what is known of each group of channels. */
struct images {
    const entry *x, *gradient; /* gradient: of the result; NULL forwards */
    entry *result;             /* the normalised images, or the gradient of x */
    const float *weight, *bias;
    float *mean, *inverse;  /* (n, groups): mean, and one over the deviation */
    float *total, *along;   /* (n, channels): sums of the gradient, and of its product with what was normalised */
    float epsilon;
    long n, voxels, channels, groups;
};

/* sums over the voxels of an image: of a, and of a times b; (channels) each */
static void summed(const entry *restrict a, const entry *restrict b, long voxels, long channels, double *restrict sum,
                   double *restrict product) {
    const long fold = channels < ROW ? ROW / channels : 1, row = fold * channels, size = voxels * channels;
    float some[row], other[row];
    for (long c = 0; c < channels; c++) sum[c] = product[c] = 0;
    for (long from = 0; from < size; from += ROWS * row) {
        const long end = from + ROWS * row < size ? from + ROWS * row : size;
        long k = from;
        for (long c = 0; c < row; c++) some[c] = other[c] = 0;
        for (; k + row <= end; k += row)
            for (long c = 0; c < row; c++) {
                const float value = number(a[k + c]);
                some[c] += value;
                other[c] += value * number(b[k + c]);
            }
        for (long c = 0; k < end; k++, c++) {
            some[c] += number(a[k]);
            other[c] += number(a[k]) * number(b[k]);
        }
        for (long c = 0; c < row; c++) {
            sum[c % channels] += (double)some[c];
            product[c % channels] += (double)other[c];
        }
    }
}

/* result = level + slope a + other b of every channel; b may be NULL */
static void combined(const entry *restrict a, const entry *restrict b, entry *restrict result, long voxels, long channels,
                     const float *level, const float *slope, const float *other) {
    const long fold = channels < ROW ? ROW / channels : 1, row = fold * channels, size = voxels * channels;
    float all[3][row];
    for (long c = 0; c < row; c++) {
        all[0][c] = level[c % channels];
        all[1][c] = slope[c % channels];
        all[2][c] = b ? other[c % channels] : 0;
    }
    long k = 0;
    for (; k + row <= size && b; k += row)
        for (long c = 0; c < row; c++)
            result[k + c] = rounded(all[0][c] + all[1][c] * number(a[k + c]) + all[2][c] * number(b[k + c]));
    for (; k + row <= size && !b; k += row)
        for (long c = 0; c < row; c++) result[k + c] = rounded(all[0][c] + all[1][c] * number(a[k + c]));
    for (long c = 0; k < size; k++, c++)
        result[k] = rounded(all[0][c] + all[1][c] * number(a[k]) + (b ? all[2][c] * number(b[k]) : 0));
}

static void forwards(const struct images *s, long image) {
    const long channels = s->channels, group = channels / s->groups, at = image * s->voxels * channels;
    double sum[channels], square[channels];
    float level[channels], slope[channels];
    summed(s->x + at, s->x + at, s->voxels, channels, sum, square);
    for (long g = 0; g < s->groups; g++) {
        double mean = 0, spread = 0;
        for (long c = g * group; c < (g + 1) * group; c++) mean += sum[c], spread += square[c];
        mean /= (double)(group * s->voxels);
        spread = spread / (double)(group * s->voxels) - mean * mean;
        if (spread < 0) spread = 0; /* by rounding; what is no number stays so */
        const double inverse = 1 / sqrt(spread + (double)s->epsilon);
        s->mean[image * s->groups + g] = (float)mean;
        s->inverse[image * s->groups + g] = (float)inverse;
        for (long c = g * group; c < (g + 1) * group; c++) {
            slope[c] = (float)inverse * s->weight[c];
            level[c] = s->bias[c] - (float)mean * slope[c];
        }
    }
    combined(s->x + at, NULL, s->result + at, s->voxels, channels, level, slope, NULL);
}

static void backwards(const struct images *s, long image) {
    const long channels = s->channels, group = channels / s->groups, at = image * s->voxels * channels;
    double sum[channels], product[channels];
    float level[channels], slope[channels], own[channels];
    summed(s->gradient + at, s->x + at, s->voxels, channels, sum, product);
    for (long g = 0; g < s->groups; g++) {
        const double mean = (double)s->mean[image * s->groups + g], inverse = (double)s->inverse[image * s->groups + g];
        double total = 0, along = 0; /* of the gradient of what was normalised */
        for (long c = g * group; c < (g + 1) * group; c++) {
            product[c] = (product[c] - mean * sum[c]) * inverse;
            s->total[image * channels + c] = (float)sum[c];
            s->along[image * channels + c] = (float)product[c];
            total += sum[c] * (double)s->weight[c];
            along += product[c] * (double)s->weight[c];
        }
        total *= inverse / (double)(group * s->voxels);
        along *= inverse * inverse / (double)(group * s->voxels);
        for (long c = g * group; c < (g + 1) * group; c++) {
            level[c] = (float)(mean * along - total);
            slope[c] = (float)-along;
            own[c] = (float)inverse * s->weight[c];
        }
    }
    combined(s->x + at, s->gradient + at, s->result + at, s->voxels, channels, level, slope, own);
}

struct share {
    const struct images *images;
    long first, end;
    int started;
    pthread_t thread;
};

static void *work(void *given) {
    const struct share *own = given;
    for (long image = own->first; image < own->end; image++)
        (own->images->gradient ? backwards : forwards)(own->images, image);
    return NULL;
}

/* shape: n, voxels, channels, groups, threads; pointers that a direction has no use for are NULL */
void normalise(const entry *x, const entry *gradient, entry *result, const float *weight, const float *bias, float *mean,
               float *inverse, float *total, float *along, float epsilon, const long *shape) {
    enum { MOST = 64 };
    const struct images s = {x,     gradient, result,  weight,   bias,     mean,     inverse,
                             total, along,    epsilon, shape[0], shape[1], shape[2], shape[3]};
    const long threads = shape[4] < MOST ? shape[4] : MOST;
    struct share shares[MOST];
    for (long k = 0; k < threads; k++) {
        shares[k] = (struct share){&s, s.n * k / threads, s.n * (k + 1) / threads, 0, 0};
        if (k) shares[k].started = pthread_create(&shares[k].thread, NULL, work, &shares[k]) == 0;
    }
    for (long k = 0; k < threads; k++) {
        if (shares[k].started)
            pthread_join(shares[k].thread, NULL);
        else
            work(&shares[k]);
    }
}
